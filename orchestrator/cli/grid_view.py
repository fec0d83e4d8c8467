"""The grid of a table on a terminal: rows x fractions, a mark for each seed."""

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table as RichTable

from experiments.table import Table
from orchestrator.plan import PlannedCell

_MARKS = {
    "done": "[green]●[/]",
    "stale": "[magenta]◆[/]",
    "running": "[cyan]◐[/]",
    "partial": "[yellow]◔[/]",
    "failed": "[red]✗[/]",
    "missing": "○",
}


def grid_view(table: Table, planned: Sequence[PlannedCell]) -> RichTable:
    """Rows x fractions, a mark per seed."""
    marks: dict[tuple[str, str], list[str]] = {}
    for item in planned:
        marks.setdefault((item.cell.row, str(item.cell.label_fraction)), []).append(_MARKS[look_of(item)])
    view = RichTable(show_edge=False)
    view.add_column("")
    for fraction in table.fractions:
        view.add_column(str(fraction))
    for row in table.included_rows:
        view.add_row(escape(row.label), *(" ".join(marks.get((row.label, str(f)), ["–"])) for f in table.fractions))
    return view


def look_of(item: PlannedCell) -> str:
    """What is shown of a cell: its state, or that it is stale."""
    return "stale" if item.stale else item.state


def summary(planned: Sequence[PlannedCell]) -> str:
    """One line: cells by what is shown of them, with the legend of marks."""
    counts: Counter[str] = Counter(look_of(item) for item in planned)
    parts = [f"{_MARKS[state]} {counts[state]} {state}" for state in _MARKS if counts[state]]
    return f"{len(planned)} cells: " + ", ".join(parts)
