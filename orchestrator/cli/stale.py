"""What is stale of a table on this machine, in words for a terminal, and the command that lets it stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from experiments.table import Table, TableError
from orchestrator.cli.common import Chosen, Places, on_table, that_compares
from orchestrator.plan import Judge, PlannedCell, survey
from trainer.reading import read_result
from trainer.spec import TrialSpec
from trainer.storage import Storage

if TYPE_CHECKING:
    from results.glance import Glances

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


@dataclass(frozen=True, slots=True)
class Viewer:
    """How a command that only prints sees a storage: with `glances`, and a judge who compares them with this machine.

    What trains, publishes or verifies reads every record instead.
    """

    storage: Storage
    glances: "Glances"
    judge: Judge

    @classmethod
    def of(cls, storage: Storage, places: Places) -> "Viewer":
        """Look at a storage from this machine."""
        from orchestrator.here import Here
        from results.glance import Glance, Glances
        from results.staleness import compare
        from trainer.code import changed_files, remember_digests
        from trainer.data.cache import cache_folder

        folder = cache_folder(places.cache)
        remember_digests(folder)
        here = Here(places.data, places.cache, places.weights)
        files_of = cache(partial(changed_files, storage))

        def judge(spec: TrialSpec, seen: Glance) -> str:
            return compare(storage, spec, seen, here, files_of).text

        return cls(storage, Glances(storage, folder), judge)

    def survey(self, table: Table) -> list[PlannedCell]:
        """The state of every cell; what was read for it is remembered."""
        self.glances.look_ahead(cell.trial_id for cell in table.cells())
        planned = survey(table, self.storage, self.judge, self.glances.look)
        self.glances.remember()
        return planned


def say_stale(planned: Sequence[PlannedCell], console: Console) -> None:
    """Print what has changed since cells were done, each change once, and what to do about it."""
    by_text: dict[str, list[str]] = {}
    for item in planned:
        if item.stale:
            by_text.setdefault(item.stale, []).append(item.cell.name)
    for text, names in by_text.items():
        listed = ", ".join(names[:_MOST_NAMES])
        listed += f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
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
    from results.staleness import find_stale, judge

    table, storage, reason = chosen.table, chosen.storage, refuse_empty(why)
    here = Here(places.data, places.cache, places.weights)
    stale = find_stale(storage, table, here)
    for cell in {cell.trial_id: cell for cell in table.cells() if cell.trial_id in stale}.values():
        result = read_result(storage, cell.trial_id)
        if result is not None:
            found = judge(storage, cell.spec, result, here)
            facts = {change.name: change.now for change in found.changes}
            note(storage, cell.trial_id, attempt=found.attempt, facts=facts, why=reason)
            print(f"{cell.name} stands: {found.text}")
    print(f"{len(stale)} cells accepted" if stale else "nothing is stale here")


def refuse_empty(why: str) -> str:
    """The reason on one line. Raises: TableError where it says nothing."""
    reason = " ".join(why.split())
    if not reason:
        raise TableError("--why is empty: say why these numbers stand, for whoever asks later")
    return reason
