"""A computed table as LaTeX, with siunitx or without any package but booktabs; what lies behind it is in comments.

The snippet goes into a paper as it stands; as a document it compiles as it stands. Both fit the page they are made for
where the font alone can do it, and say how wide they are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from results.caption import DEMONSTRATION, caption
from results.compute import ComputedTable
from results.escaping import escape_latex, one_line
from results.latex_cells import PLAIN, SIUNITX, Dialect, shapes_of
from results.layout import DEFAULT, Layout, PrintedLine, header, printed_lines
from results.origins import origins

POINTS_PER_SIGN = 5.0
POINTS_PER_CM = 28.45
COLUMN_GAP = 12.0
SNIPPET_POINTS = 397.0
"""A text 5.5 inches wide, as single-column proceedings have it."""
PORTRAIT_POINTS, LANDSCAPE_POINTS = 512.0, 760.0
"""What margins of 15 mm leave of A4."""
FONT_SIZES = (("normalsize", 1.0), ("small", 0.9), ("footnotesize", 0.8))
LONG_LABEL = 36


def format_latex(table: ComputedTable, layout: Layout = DEFAULT) -> str:
    """A booktabs table whose figures siunitx (version 3) aligns at the decimal point."""
    return _latex(table, layout, SIUNITX)


def format_latex_plain(table: ComputedTable, layout: Layout = DEFAULT) -> str:
    """A booktabs table aligned by hand, for styles that do not go with siunitx."""
    return _latex(table, layout, PLAIN)


def _latex(table: ComputedTable, layout: Layout, dialect: Dialect) -> str:
    lines = printed_lines(table, layout)
    fit = _fit(natural_width(table, lines), PORTRAIT_POINTS if layout.standalone else SNIPPET_POINTS)
    body = _float(table, layout, lines, dialect, fit)
    if layout.standalone:
        body = [*_preamble(dialect, fit), *body, "\\end{document}"]
    return "\n".join([*_comments(table, dialect, fit), *body]) + "\n"


def natural_width(table: ComputedTable, lines: Sequence[PrintedLine]) -> float:
    """How wide the table is about in a font of ten points, in points."""
    heads = header(table)
    columns = [max(len(heads[0]), min(LONG_LABEL, max((len(line.label) + 2 for line in lines), default=0)))]
    for column, head in enumerate(heads[1:]):
        columns.append(max(len(head), *(len(line.cells[column].text) for line in lines), 0))
    return POINTS_PER_SIGN * sum(columns) + COLUMN_GAP * len(columns)


@dataclass(frozen=True, slots=True)
class _Fit:
    """The largest font in which a table fits into its room, else the smallest, and its width in it."""

    font: str
    width: float
    is_wider_than_room: bool

    @property
    def is_shrunk(self) -> bool:
        """Whether no page can hold it in that font."""
        return self.width > LANDSCAPE_POINTS


def _fit(natural: float, room: float) -> _Fit:
    fits = [_Fit(font, natural * scale, natural * scale > room) for font, scale in FONT_SIZES]
    return next((fit for fit in fits if not fit.is_wider_than_room), fits[-1])


def _comments(table: ComputedTable, dialect: Dialect, fit: _Fit) -> Iterator[str]:
    """What table this is, what it needs, how wide it is, what lies behind each cell, and every warning."""
    yield f"% {DEMONSTRATION}" if table.is_demonstration else f"% mixgrid table {one_line(table.name)}"
    yield f"% Needs in the preamble: {' '.join(_use(package) for package in _packages(dialect, fit))}"
    yield f"% About {fit.width / POINTS_PER_CM:.1f} cm wide (\\{fit.font})."
    if fit.is_wider_than_room:
        yield "% In two columns write table*; on a page too narrow for it sidewaystable, of the package rotating."
    yield from (f"% {line}" for line in origins(table))
    yield from (f"% warning: {one_line(warning)}" for warning in table.warnings)


def _packages(dialect: Dialect, fit: _Fit) -> tuple[str, ...]:
    return (*dialect.packages, *(["graphicx"] if fit.is_shrunk else []))


def _use(package: str) -> str:
    return f"\\usepackage{{{package}}}"


def _preamble(dialect: Dialect, fit: _Fit) -> Iterator[str]:
    orientation = ",landscape" if fit.is_wider_than_room else ""
    yield "\\documentclass{article}"
    yield f"\\usepackage[a4paper,margin=15mm{orientation}]{{geometry}}"
    yield from map(_use, _packages(dialect, fit))
    yield "\\begin{document}"
    yield "\\thispagestyle{empty}"


def _float(
    table: ComputedTable, layout: Layout, lines: Sequence[PrintedLine], dialect: Dialect, fit: _Fit
) -> list[str]:
    label = re.sub(r"[^A-Za-z0-9-]+", "-", table.name)
    shrink, shrunk = ("\\resizebox{\\linewidth}{!}{%", "}") if fit.is_shrunk else ("", "")
    body = [
        "\\centering",
        "\\setlength{\\belowcaptionskip}{1ex}",
        f"\\caption{{{escape_latex(caption(table, layout))}}}",
        f"\\label{{tab:{label}}}",
        f"\\{fit.font}",
        *dialect.setup,
        shrink,
        *_tabular(table, lines, dialect),
        shrunk,
    ]
    return ["\\begin{table}", *(f"  {line}" for line in body if line), "\\end{table}"]


def _tabular(table: ComputedTable, lines: Sequence[PrintedLine], dialect: Dialect) -> Iterator[str]:
    shapes = shapes_of(lines, len(table.fractions))
    is_long = any(len(line.label) > LONG_LABEL for line in lines)
    first = f"p{{{POINTS_PER_SIGN * LONG_LABEL / 10:g}em}}" if is_long else "l"
    method, *heads = map(escape_latex, header(table))
    yield f"\\begin{{tabular}}{{{' '.join([first, *map(dialect.column, shapes)])}}}"
    yield "  \\toprule"
    yield f"  {' & '.join([method, *map(dialect.head, heads)])} \\\\"
    yield "  \\midrule"
    has_lines_below = any(line.kind != "ours" for line in lines)
    for index, line in enumerate(lines):
        if line.begins_group:
            yield "  \\midrule"
        elif has_lines_below and index and line.kind == "ours":
            yield "  \\addlinespace"
        cells = (dialect.cell(cell, shape) for cell, shape in zip(line.cells, shapes, strict=True))
        yield f"  {' & '.join([_label(line, is_long), *cells])} \\\\"
    yield "  \\bottomrule"
    yield "\\end{tabular}"


def _label(line: PrintedLine, is_long: bool) -> str:
    ragged = "\\raggedright " if is_long else ""
    indent = "" if line.kind == "ours" else "\\quad "
    return f"{ragged}{indent}{escape_latex(line.label)}"
