"""What `table --statistics` prints: intervals of every cell, tests against the reference row, and both in words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

if TYPE_CHECKING:
    from results.aggregate import CellSummary
    from results.compute import ComputedTable
    from results.statistics import Comparison


def print_statistics(
    table: "ComputedTable",
    console: Console,
    *,
    reference: str | None = None,
    margin_points: float = 0.5,
    varies: str | None = None,
) -> None:
    """Print the statistics of a table for a terminal.

    Args:
        reference: the row that others are compared with, instead of the table's own.
        margin_points: up to where a difference from a published value counts as none.
        varies: what differs between the runs of a cell, as `results.statistics.what_varies` says it.
    Raises: ValueError as `results.statistics.sentences`, before anything is printed.
    """
    from results.statistics import compare_with_reference, sentences

    words = sentences(table, reference=reference, margin_points=margin_points, varies=varies)
    console.print(
        "95 % intervals of the means (Student's t over seeds), mean IoU in percent", style="bold", highlight=False
    )
    console.print(_intervals(table))
    if compared := compare_with_reference(table, reference):
        title = f"rows against {escape(compared[0].reference)}, in points of mean IoU (below each p the one after Holm)"
        console.print(f"\n{title}", style="bold", highlight=False)
        console.print(_comparisons(compared))
    console.print()
    for sentence in words:
        console.print(f"- {escape(sentence)}", highlight=False)


def _intervals(table: "ComputedTable") -> RichTable:
    from results.layout import header, marked_label

    view = _view(header(table))
    for line in table.lines:
        view.add_row(escape(marked_label(table, line)), *map(_interval_words, line.cells))
    return view


def _interval_words(cell: "CellSummary | None") -> str:
    from results.statistics import mean_interval

    if cell is None:
        return ""
    interval = mean_interval([100 * value for value in cell.values])
    note = "" if cell.is_complete else f"\n† ({cell.n}/{cell.expected})"
    return (f"{interval.low:.2f} to {interval.high:.2f}" if interval else "–") + note


def _comparisons(compared: "Sequence[Comparison]") -> RichTable:
    from results.statistics import comparison_figures

    view = _view(("row", "points", "95 %", "sign flips", "smallest p", "t on seeds", "verdict"))
    view.columns[-1].min_width = len("testable")
    for comparison in compared:
        row, points, interval, flips, flips_holm, smallest, t, t_holm, verdict = comparison_figures(comparison)
        tests = (f"{flips}\n{flips_holm}", smallest, f"{t}\n{t_holm}")
        view.add_row(escape(row), points, interval, *tests, verdict)
    return view


def _view(headings: Sequence[str]) -> RichTable:
    view = RichTable(show_edge=False, pad_edge=False)
    for number, heading in enumerate(headings):
        view.add_column(escape(heading), justify="left" if number == 0 else "right", overflow="fold")
    return view
