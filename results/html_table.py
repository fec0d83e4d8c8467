"""A computed table as HTML: a fragment for a larger page, or a small page of its own that asks for nothing outside.

Text enters by `Markup.format`, which escapes it; no markup is joined in any other way.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from markupsafe import Markup

from results.aggregate import CellSummary
from results.caption import caption_sentences
from results.compute import ComputedTable
from results.escaping import one_line
from results.html_style import PAGE_CSS, TABLE_CSS
from results.layout import (
    DEFAULT,
    NOTHING_DONE,
    Layout,
    PrintedCell,
    PrintedLine,
    header,
    printed_lines,
)
from results.marks import STALE, Mark
from results.origins import open_cells, origins

__all__ = ["TABLE_CSS", "format_html", "table_fragment"]

Link = Callable[[CellSummary], str]
FIGURE_SPACE = "\u2007"


def table_fragment(table: ComputedTable, *, link: Link | None = None, layout: Layout = DEFAULT) -> str:
    """One <table> with caption and scoped headers, to stand where TABLE_CSS is in force.

    Args:
        link: where a cell's figures lead; nowhere without it.
    Returns: cells have the classes `leader`, `incomplete`, `stale` and `state-STATE` for the states of absent seeds.
    """
    lines = printed_lines(table, layout)
    std_width = _longest_std(lines)
    return Markup('<table class="mixgrid-table" style="--std: {:.1f}em">\n{}{}{}</table>\n').format(
        std_width, _caption(table, layout), _head(table), _join(_groups(lines, link))
    )


def _longest_std(lines: Sequence[PrintedLine]) -> float:
    """Room for the longest ± std in em, which is the same for medium and bold figures."""
    signs = max((len(cell.std) for line in lines for cell in line.cells), default=0)
    return 0.62 * (signs + 2) if signs else 0.0


def format_html(table: ComputedTable, layout: Layout = DEFAULT) -> str:
    """A whole page: the table, what to be wary of, and what lies behind each cell."""
    return Markup(_PAGE).format(
        title=one_line(table.title),
        css=Markup(PAGE_CSS + TABLE_CSS),
        table=Markup(table_fragment(table, layout=layout)),
        wary=_list_of((*open_cells(table), *table.warnings), _WARY),
        origins=_list_of(origins(table), _ORIGINS),
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<main>
<div class="table-scroll" role="region" aria-label="The table; it scrolls sideways" tabindex="0">
{table}</div>
{wary}{origins}</main>
</body>
</html>
"""
_WARY = "<section>\n<h2>To be wary of</h2>\n<ul>\n{}</ul>\n</section>\n"
_ORIGINS = "<details>\n<summary>What lies behind each cell</summary>\n<ul>\n{}</ul>\n</details>\n"


def _list_of(lines: Iterable[str], around: str) -> Markup:
    items = _join(Markup("<li>{}</li>\n").format(one_line(line)) for line in lines)
    return Markup(around).format(items) if items else Markup()


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup().join(parts)


# --- the table ----------------------------------------------------------------------------------------------------


def _caption(table: ComputedTable, layout: Layout) -> Markup:
    title, *said = map(one_line, caption_sentences(table, layout))
    return Markup("<caption><div><strong>{}</strong> {}</div></caption>\n").format(title, " ".join(said))


def _head(table: ComputedTable) -> Markup:
    heads = _join(Markup('<th scope="col">{}</th>').format(text) for text in header(table))
    return Markup("<thead>\n<tr>{}</tr>\n</thead>\n").format(heads)


def _groups(lines: Sequence[PrintedLine], link: Link | None) -> Iterable[Markup]:
    """A <tbody> per group of rows."""
    decimals = _decimals(lines)
    group, row = 0, ""
    numbered: list[tuple[int, Markup]] = []
    for line in lines:
        group += line.begins_group
        row = line.label if line.kind == "ours" else row
        numbered.append((group, _row(line, row, decimals, link)))
    for _, rows in groupby(numbered, key=lambda pair: pair[0]):
        yield Markup("<tbody>\n{}</tbody>\n").format(_join(row for _, row in rows))


def _decimals(lines: Sequence[PrintedLine]) -> int:
    return max((len(cell.mean.partition(".")[2]) for line in lines for cell in line.cells), default=0)


def _row(line: PrintedLine, row: str, decimals: int, link: Link | None) -> Markup:
    label = Markup("{}").format(line.label)
    if line.kind != "ours":
        label = Markup('{}<span class="unseen"> for {}</span>').format(line.label, row)
    cells = _join(_cell(cell, row, decimals, link) for cell in line.cells)
    return Markup('<tr class="{}"><th scope="row">{}</th>{}</tr>\n').format(line.kind, label, cells)


def _cell(cell: PrintedCell, row: str, decimals: int, link: Link | None) -> Markup:
    figures = _figures(cell, decimals)
    if cell.is_leader:
        figures = Markup("<strong>{}</strong>").format(figures)
    if link is not None and cell.summary is not None:
        told = f"{row} at {cell.summary.label_fraction}: {_told(cell)}"
        figures = Markup('<a href="{}" aria-label="{}">{}</a>').format(link(cell.summary), told, figures)
    classes = " ".join(_classes(cell))
    start = Markup('<td class="{}">').format(classes) if classes else Markup("<td>")
    return Markup("{}{}{}</td>").format(start, figures, _note(cell))


def _classes(cell: PrintedCell) -> Iterable[str]:
    if cell.is_leader:
        yield "leader"
    if cell.summary is not None and not cell.summary.is_complete:
        yield "incomplete"
    yield from (STALE if mark.state == STALE else f"state-{mark.state}" for mark in cell.marks)


def _told(cell: PrintedCell) -> str:
    figures = "no number" if cell.words == NOTHING_DONE else cell.figures
    return "; ".join((figures, *(mark.text for mark in cell.marks)))


def _figures(cell: PrintedCell, decimals: int) -> Markup:
    if cell.words or not cell.mean:
        return Markup('<span class="words">{}</span>').format(cell.words) if cell.words else Markup()
    missing = decimals - len(cell.mean.partition(".")[2])
    std = f" ± {cell.std}" if cell.std else ""
    return Markup('<span class="mean">{}</span><span class="std">{}</span>').format(
        cell.mean + FIGURE_SPACE * missing, std.replace(" ", "\u00a0")
    )


def _note(cell: PrintedCell) -> Markup:
    if not cell.note:
        return Markup()
    marks = _join(map(_mark, cell.marks))
    return Markup(' <span class="note">{}{}</span>').format(f"({cell.count}) " if cell.count else "", marks)


def _mark(mark: Mark) -> Markup:
    return Markup('<abbr class="mark-{}" title="{}">{}</abbr>').format(mark.state, mark.text, mark.letter)
