"""What is stale of a table on this machine, in words for a terminal, and the command that lets it stand."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from experiments.table import Table, TableError
from orchestrator.cli.common import Chosen, Places, on_table, that_compares
from orchestrator.plan import Judge, PlannedCell, survey
from trainer.records import Storage, read_result

_MOST_NAMES = 4
CURE = "`mixgrid run --rerun-stale` trains them again, `mixgrid accept --why …` lets them stand"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(accept)


def judge_here(storage: Storage, places: Places) -> Judge:
    """A judge who compares what trials were made with and what this machine has."""
    from orchestrator.here import Here
    from results.staleness import judge

    here = Here(places.data, places.cache, places.weights)
    return lambda spec, result: judge(storage, spec, result, here).text


def say_stale(planned: Sequence[PlannedCell], console: Console) -> None:
    """Print what has changed since cells were done, each change once, and what to do about it."""
    by_text: dict[str, list[str]] = {}
    for item in planned:
        if item.stale:
            by_text.setdefault(item.stale, []).append(item.cell.name)
    for text, names in by_text.items():
        listed = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" if names[4:] else "")
        console.print(f"stale: {text}: {listed}", markup=False, highlight=False, soft_wrap=True)
    if by_text:
        console.print(CURE, markup=False, highlight=False, soft_wrap=True)


@on_table
@that_compares
def accept(
    chosen: Chosen,
    places: Places,
    why: Annotated[str, typer.Option(help="Why these numbers stand all the same; it is kept with them.")],
) -> None:
    """Let stale cells stand: note beside their results what has changed, by whom and why; further changes count."""
    from orchestrator.here import Here
    from orchestrator.stale_results import accept as note
    from results.staleness import judge

    table, storage = chosen.table, chosen.storage
    reason = refuse_empty(why)
    here, num_accepted = Here(places.data, places.cache, places.weights), 0
    for item in stale_cells(table, storage, places):
        result = read_result(storage, item.cell.trial_id)
        if result is not None and (changes := judge(storage, item.cell.spec, result, here).changes):
            facts = {change.name: change.now for change in changes}
            note(storage, item.cell.trial_id, attempt=result.attempt, facts=facts, why=reason)
            print(f"{item.cell.name} stands: {'; '.join(change.text for change in changes)}")
            num_accepted += 1
    print(f"{num_accepted} cells accepted" if num_accepted else "nothing is stale here")


def refuse_empty(why: str) -> str:
    """The reason on one line. Raises: TableError where it says nothing."""
    reason = " ".join(why.split())
    if not reason:
        raise TableError("--why is empty: say why these numbers stand, for whoever asks later")
    return reason


def stale_cells(table: Table, storage: Storage, places: Places) -> list[PlannedCell]:
    """The cells that are stale here, each trial once."""
    planned = survey(table, storage, judge_here(storage, places))
    return list({item.cell.trial_id: item for item in reversed(planned) if item.stale}.values())[::-1]
