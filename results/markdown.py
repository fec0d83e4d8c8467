"""A computed table as a pipe table in Markdown."""

from results.caption import caption
from results.compute import ComputedTable
from results.escaping import escape_markdown
from results.layout import DEFAULT, Layout, PrintedCell, PrintedLine, header, printed_lines
from results.origins import open_cells


def format_markdown(table: ComputedTable, layout: Layout = DEFAULT) -> str:
    """The table, its caption, the cells that bear a mark, and every warning."""
    heads = map(escape_markdown, header(table))
    rule = ["---", *("---:" for _ in table.fractions)]
    rows = (_row(line) for line in printed_lines(table, layout))
    grid = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))
    notes = [f"- {escape_markdown(note)}" for note in (*open_cells(table), *table.warnings)]
    return "\n\n".join([grid, escape_markdown(caption(table, layout)), *(["\n".join(notes)] if notes else [])]) + "\n"


def _row(line: PrintedLine) -> list[str]:
    label = escape_markdown(line.label)
    return [label if line.kind == "ours" else f"*{label}*", *map(_cell, line.cells)]


def _cell(cell: PrintedCell) -> str:
    figures = f"**{cell.figures}**" if cell.is_leader else cell.figures
    return " ".join(part for part in (figures, cell.note) if part)
