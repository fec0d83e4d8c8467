"""What `explain` prints of a number: the cell of the table, then each of its trials."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from experiments.table import Cell
from orchestrator.cli.common import Chosen, Places
from orchestrator.submit.ledger import origin_of, submission_called
from trainer.reading import read_manifests
from trainer.spec import absolute_place
from trainer.storage import Storage

_WIDTH = 13


def explain_cells(console: Console, chosen: Chosen, cells: Sequence[Cell], places: Places, *, is_whole: bool) -> None:
    """Print cells of one row and fraction.

    Args:
        is_whole: whether they are all seeds of it, so that mean and standard deviation are said first.
    """
    from orchestrator.cli.output import computed
    from orchestrator.here import Here
    from results.explanation import Command, aggregate_entries, entries_of

    here, table = Here(places.data, places.cache, places.weights), chosen.table
    if is_whole:
        first = cells[0]
        print_entries(
            console,
            f"{first.row}@{first.label_fraction} of table {table.name}",
            aggregate_entries(computed(table, chosen.storage, places=places), first.row, str(first.label_fraction)),
        )
    selection = chosen.selection.settled(chosen.storage)
    for cell in cells:
        command = Command(tuple(selection.words_for(cell)), words_of(places))
        entries = entries_of(chosen.storage, cell, here=here, command=command, with_losses=True)
        submitted = [("submitted", text) for text in snapshots_of(chosen.storage, cell.trial_id)]
        print_entries(console, f"{cell.name} of table {table.name}", [*entries, *submitted])


def snapshots_of(storage: Storage, trial_id: str) -> Iterator[str]:
    """The snapshots of code that attempts at a trial ran as submitted jobs, in words, each once."""
    manifests, _ = read_manifests(storage, trial_id)
    names = dict.fromkeys(str(manifest.options.get("submission") or "") for manifest in manifests)
    for name in filter(None, names):
        record = submission_called(storage, name)
        yield f"{name}, whose record is gone" if record is None else origin_of(record)


def words_of(places: Places) -> tuple[str, ...] | None:
    """Places as options of a command; None where there are no data here, so that those of the trial are named."""
    if "://" not in places.data and not Path(places.data).is_dir():
        return None
    given = (("--data", places.data), ("--cache", places.cache), ("--weights", places.weights))
    return tuple(word for option, place in given if place for word in (option, absolute_place(place)))


def print_entries(console: Console, title: str, entries: Iterable[tuple[str, str]]) -> None:
    """Print pairs of title and text below a heading."""
    console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
    for name, text in entries:
        console.print(f"  {name:<{_WIDTH}}{text}", markup=False, highlight=False, soft_wrap=True)
