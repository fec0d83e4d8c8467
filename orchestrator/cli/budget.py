"""What `run` plans before it trains, and says of its budget afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.table import Cell
from orchestrator.agenda import Agenda
from orchestrator.forecast import lengths, waiting_trials
from orchestrator.lint_data import DataOnDisk
from orchestrator.order import Narrowing, most_uncertain
from orchestrator.plan import PlannedCell
from trainer.storage import Storage

if TYPE_CHECKING:
    from orchestrator.driver import GridOutcome
    from results.compute import ComputedTable


def with_lengths(
    agenda: Agenda, planned: Sequence[PlannedCell], cells: Sequence[Cell], storage: Storage, data: str
) -> Agenda:
    """An agenda that knows how long the cells may take, on one device each."""
    wanted = {cell.trial_id for cell in cells}
    found = lengths(planned, storage, DataOnDisk(data).counts)
    known = {name: length for name, length in found.items() if name in wanted}
    return replace(agenda, lengths=tuple(waiting_trials(planned, known, workers=1)))


def say_budget(outcome: "GridOutcome", agenda: Agenda, names: dict[str, str], console: Console) -> None:
    """What was used of a budget, and which cells did not fit into what was left; nothing without a budget."""
    if agenda.max_device_hours is None:
        return
    said = f"{outcome.device_hours:.3g} of {agenda.max_device_hours:g} device-hours used"
    if outcome.left_out:
        left = ", ".join(names[name] for name in outcome.left_out[:4])
        more = f" and {len(outcome.left_out) - 4} more" if len(outcome.left_out) > 4 else ""
        said += f"; not started, since by their forecast they do not fit into what is left: {left}{more}"
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def say_narrowing(table: "ComputedTable", seeds: Sequence[int], console: Console) -> None:
    """Which further runs would narrow the most uncertain comparison; nothing where the table compares nothing."""
    if table.reference_row is None:
        return
    scores = {
        (line.label, fraction): dict(cell.scores)
        for line in table.lines
        for fraction, cell in zip(table.fractions, line.cells, strict=True)
        if cell is not None
    }
    found = most_uncertain(scores, table.reference_row, seeds)
    if found is not None:
        console.print(narrowing_words(found, table.reference_row), markup=False, highlight=False, soft_wrap=True)


def narrowing_words(found: Narrowing, reference: str) -> str:
    """The least certain comparison and its cure, in words; scores are mean IoU in [0, 1], differences are in points."""
    seeds = ", ".join(map(str, found.seeds))
    runs = f"seed{'s' if len(found.seeds) > 1 else ''} {seeds} of {found.row} and of {reference}, where not done"
    said = f"least certain: {found.row} beside {reference} at {found.label_fraction}, "
    if found.standard_error is None or found.expected_error is None:
        pairs = "no pair" if found.num_pairs == 0 else "1 pair"
        return f"{said}{pairs} of seeds so far; {runs}, would give it a standard error"
    before, after = 100 * found.standard_error, 100 * found.expected_error
    return (
        f"{said}standard error {before:.2f} points over {found.num_pairs} pairs of seeds; "
        f"{runs}, would make it about {after:.2f}"
    )
