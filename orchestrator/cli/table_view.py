"""A computed table as a terminal shows it, or a file of plain text."""

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from results.caption import caption
from results.compute import ComputedTable
from results.layout import DEFAULT, Layout, PrintedCell, PrintedLine, header, printed_lines

FILE_WIDTH = 200
LABEL_WIDTH = 10
"""What a label needs at least before it is broken; figures are broken only where this is not left."""


def show(table: ComputedTable, layout: Layout, out: Path | None) -> None:
    """Print the table on the screen, or write it without colour to a file and print where."""
    if out is None:
        print_computed(table, Console(), layout)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as file:
        print_computed(table, Console(file=file, width=FILE_WIDTH, color_system=None), layout)
    print(out)


def print_computed(table: ComputedTable, console: Console, layout: Layout = DEFAULT) -> None:
    """Print the table, its caption and what to be wary of; what stands below our own numbers is dim."""
    console.print(_grid(header(table), printed_lines(table, layout), console.width))
    console.print(escape(caption(table, layout)), highlight=False, style="dim")
    for warning in table.warnings:
        console.print(f"[yellow]note:[/] {escape(warning)}", highlight=False)


def _grid(heads: Sequence[str], lines: Sequence[PrintedLine], width: int) -> RichTable:
    columns = [[_label(line) for line in lines]]
    columns += [_column([line.cells[number] for line in lines]) for number in range(len(heads) - 1)]
    view = RichTable(show_edge=False, pad_edge=False)
    for head, fixed in zip(heads, _widths(heads, columns, width), strict=True):
        view.add_column(escape(head), overflow="fold", width=fixed)
    for line, label, *texts in zip(lines, *columns, strict=True):
        if line.begins_group:
            view.add_section()
        bold = (f"[bold]{text}[/]" if cell.is_leader else text for cell, text in zip(line.cells, texts, strict=True))
        view.add_row(escape(label), *bold, style="" if line.kind == "ours" else "dim")
    return view


def _label(line: PrintedLine) -> str:
    return line.label if line.kind == "ours" else f"  {line.label}"


def _column(cells: Sequence[PrintedCell]) -> list[str]:
    """Figures and, below them, count and marks; beside the dash of a cell without any."""
    gaps = (" " if cell.words else "\n" for cell in cells)
    return [
        f"{text}{gap}{cell.note}" if cell.note else text
        for text, gap, cell in zip(aligned(cells), gaps, cells, strict=True)
    ]


def _widths(heads: Sequence[str], columns: Sequence[Sequence[str]], width: int) -> Sequence[int | None]:
    """Widths that break labels first, then notes, and figures only where nothing else helps; None: as it comes out."""
    for shown in (None, 1):
        natural = [
            max(cell_len(part) for text in (head, *column) for part in text.split("\n")[:shown])
            for head, column in zip(heads, columns, strict=True)
        ]
        left = width - sum(natural[1:]) - len(" │ ") * (len(heads) - 1)
        if left >= LABEL_WIDTH:
            return [min(left, natural[0]), *natural[1:]]
    return [None] * len(heads)


def aligned(cells: Sequence[PrintedCell]) -> list[str]:
    """The figures of a column with their decimal points below each other; words as they are."""
    whole = max((len(_whole(cell.mean)) for cell in cells), default=0)
    mean = max((whole - len(_whole(cell.mean)) + len(cell.mean) for cell in cells), default=0)
    std = max((len(_whole(cell.std)) for cell in cells), default=0)
    return [cell.words or _figures(cell, whole=whole, mean=mean, std=std) for cell in cells]


def _whole(number: str) -> str:
    return number.partition(".")[0]


def _figures(cell: PrintedCell, *, whole: int, mean: int, std: int) -> str:
    if not cell.mean:
        return ""
    text = " " * (whole - len(_whole(cell.mean))) + cell.mean
    return f"{text.ljust(mean)} ± {' ' * (std - len(_whole(cell.std)))}{cell.std}" if cell.std else text
