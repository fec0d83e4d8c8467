"""A computed table as CSV, LaTeX or Markdown, and onto disk: format and write are apart, neither reads storage.

The same records give the same bytes: nothing here knows the date, the machine or where the storage lies.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pandas as pd

from results.aggregate import CellSummary
from results.compute import (
    DEMONSTRATION,
    ComputedTable,
    Line,
    caption,
    compute_table,
    count_note,
    figures,
    header,
    is_leader,
    marked_label,
    own_selection,
    rows_for_display,
)
from results.escaping import escape_csv, escape_latex, escape_markdown, one_line
from results.published import PublishedScore
from trainer.spec import MEAN

__all__ = ["FORMATS", "compute_table", "format_latex", "format_table", "write_table"]

PREAMBLE = (
    r"\documentclass{article}",
    r"\usepackage[margin=15mm]{geometry}",
    r"\usepackage{booktabs}",
    r"\begin{document}",
)
PAPER = r"\quad (paper)"


def format_table(table: ComputedTable, name: str) -> str:
    """The table in one of FORMATS. Raises: ValueError naming the formats that there are."""
    if name not in FORMATS:
        raise ValueError(f"no table format {name!r}: give one of {', '.join(FORMATS)}")
    return FORMATS[name](table)


def write_table(text: str, path: Path) -> None:
    """Write a formatted table, making the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


# --- csv ----------------------------------------------------------------------------------------------------------

CELL_FIELDS = ("mean (0-1)", "std (0-1)", "n", "expected n", "state")
PUBLISHED_FIELDS = ("published mean (0-1)", "published std (0-1)")


def format_csv(table: ComputedTable) -> str:
    """One line per row; per fraction mean and std in [0, 1] in full precision, n, expected n, state, published."""
    fields = CELL_FIELDS + (PUBLISHED_FIELDS if table.citation else ())
    columns = [f"{fraction} {field}" for fraction in table.fractions for field in fields]
    head = ["row", "policy", "network", "eval_size", *columns]
    return _csv([head, *(_wide_line(table, line) for line in table.lines)])


def _wide_line(table: ComputedTable, line: Line) -> list[str]:
    networks = "+".join(line.networks) or line.selection.network
    sizes = "+".join(line.eval_sizes or table.eval_sizes)
    values = [escape_csv(line.label), line.selection.policy, networks, sizes]
    for cell, published in zip(line.cells, line.published, strict=True):
        values += _cell_values(cell) + (_published_values(published) if table.citation else [])
    return values


def _cell_values(cell: CellSummary | None) -> list[str]:
    if cell is None:
        return ["", "", "0", "0", "not declared"]
    return [_exact(cell.mean), _exact(cell.std), str(cell.n), str(cell.expected), cell.state]


def _published_values(score: PublishedScore | None) -> list[str]:
    percents = (score.mean, score.std) if score else (None, None)
    return ["" if percent is None else str(percent / Decimal(100)) for percent in percents]


def format_csv_long(table: ComputedTable) -> str:
    """One line per trial and network with the IoU of each class in [0, 1]; one for each trial without a number."""
    classes = [name for name in table.chosen["class_name"].unique() if name != MEAN]
    head = ["row", "label_fraction", "seed", "trial_id", "state", "step", "network", "policy", "eval_size", "mean_iou"]
    places: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for (row, trial_id, _), lines in table.chosen.groupby(["row", "trial_id", "network"], sort=False):
        places.setdefault((str(row), str(trial_id)), []).append(lines)
    policies = {line.label: line.selection.policy for line in table.lines}
    written = [[*head, *(f"iou_{name}" for name in classes)]]
    for row, fraction, seed, trial_id, state, *_ in table.trials.itertuples(index=False):
        start = [escape_csv(row), fraction, str(seed), trial_id, state]
        empty = ["", "", policies[row], ""] + [""] * (1 + len(classes))
        judged = [_judged(lines, policies[row], [MEAN, *classes]) for lines in places.get((row, trial_id), ())]
        written += [[*start, *values] for values in judged or [empty]]
    return _csv(written)


def _judged(lines: pd.DataFrame, policy: str, names: Sequence[str]) -> list[str]:
    ious: Mapping[str, float] = dict(zip(lines["class_name"], lines["iou"].tolist(), strict=True))
    first = lines.iloc[0]
    place = [str(first["step"]), str(first["network"]), policy, str(first["eval_size"])]
    return [*place, *(_exact(ious.get(name, float("nan"))) for name in names)]


def _exact(value: float) -> str:
    return "" if value != value else repr(value)


def _csv(lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


# --- markdown -----------------------------------------------------------------------------------------------------


def format_markdown(table: ComputedTable) -> str:
    """A pipe table with caption and warnings; published values stand beside ours."""
    rows = rows_for_display(table, embolden=lambda text: f"**{text}**", escape=escape_markdown)
    rule = ["---", *("---:" for _ in table.fractions)]
    grid = "\n".join(f"| {' | '.join(cells)} |" for cells in (header(table), rule, *rows))
    notes = [f"- {escape_markdown(note)}" for note in (*_absences(table), *table.warnings)]
    return "\n\n".join([grid, escape_markdown(caption(table)), *(["\n".join(notes)] if notes else [])]) + "\n"


def _absences(table: ComputedTable) -> Iterable[str]:
    for line in table.lines:
        for cell in line.cells:
            if cell is not None and not cell.is_complete:
                yield f"{cell.row}, {cell.label_fraction}: seeds {cell.state}"


# --- latex --------------------------------------------------------------------------------------------------------


def format_latex(table: ComputedTable, *, standalone: bool = False) -> str:
    """A booktabs table with its provenance in comments; `standalone` makes it a document that compiles as it stands."""
    lines = _latex_float(table)
    if standalone:
        lines = [*PREAMBLE, *lines, "\\end{document}"]
    return "\n".join([*_provenance(table), *lines]) + "\n"


def _latex_float(table: ComputedTable) -> list[str]:
    label = re.sub(r"[^A-Za-z0-9-]+", "-", table.name)
    heads = [escape_latex(text) for text in header(table)]
    return [
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escape_latex(caption(table))}}}",
        f"  \\label{{tab:{label}}}",
        f"  \\begin{{tabular}}{{l{'r' * len(table.fractions)}}}",
        "    \\toprule",
        f"    {' & '.join(heads)} \\\\",
        "    \\midrule",
        *(f"    {line}" for line in _latex_rows(table)),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]


def _latex_rows(table: ComputedTable) -> Iterable[str]:
    groups = [line.group for line in table.lines]
    begins = {i + 1 for i, (before, after) in enumerate(pairwise(groups)) if before != after}
    for index, line in enumerate(table.lines):
        if index in begins:
            yield "\\midrule"
        cells = (_latex_cell(table, line, column) for column in range(len(line.cells)))
        yield f"{' & '.join([escape_latex(marked_label(table, line)), *cells])} \\\\"
        if any(score is not None for score in line.published):
            printed = (escape_latex(score.text) if score else "" for score in line.published)
            yield f"{' & '.join([PAPER, *printed])} \\\\"


def _latex_cell(table: ComputedTable, line: Line, column: int) -> str:
    cell = line.cells[column]
    if cell is None:
        return ""
    mean, std = figures(cell)
    note = escape_latex(count_note(cell, table.num_seeds))
    if not cell.n:
        return f"\\textendash{{}}{note}"
    mean = f"\\mathbf{{{mean}}}" if is_leader(table, line, column) else mean
    return f"${mean} \\pm {std}${note}" if std else f"${mean}${note}"


def _provenance(table: ComputedTable) -> Iterable[str]:
    """Comments: what table this is, the trials and code behind each cell, and every warning."""
    yield f"% {DEMONSTRATION}" if table.is_demonstration else f"% mixgrid table {one_line(table.name)}"
    for line in table.lines:
        for cell in line.cells:
            if cell is not None:
                code = sorted({table.code[name] for name in cell.trial_ids if name in table.code}) or ["unknown"]
                state = "" if cell.is_complete else f"; seeds {cell.state}"
                own = f" [{words}]" if (words := own_selection(table, line)) else ""
                place = f"{one_line(cell.row)}{own}, {cell.label_fraction}: n {cell.n}/{cell.expected}{state}"
                yield f"% {place}; trials {', '.join(cell.trial_ids)}; code {', '.join(code)}"
    yield from (f"% warning: {one_line(warning)}" for warning in table.warnings)


FORMATS: Mapping[str, Callable[[ComputedTable], str]] = {
    "csv": format_csv,
    "csv-long": format_csv_long,
    "latex": format_latex,
    "markdown": format_markdown,
}
