"""Table and storage to cells with their state. Reads storage alone: no Ray, no memory of earlier runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from experiments.table import Cell, Table
from orchestrator.lease import holders_of, live_drivers
from trainer.reading import (
    TrialState,
    read_each,
    read_trial,
)
from trainer.records import Finished
from trainer.spec import TrialSpec
from trainer.storage import Storage

Judge = Callable[[TrialSpec, Finished], str]
"""What has changed since the trial of a spec was done, in words; nothing where nothing has."""
CellState = Literal["done", "failed", "partial", "missing", "running"]


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell, what storage says of its trial, and the live driver that holds it.

    `wall_seconds`, `attempt` and `stale` are those of a trial that is done: its whole time, the attempt that ended it,
    and what has changed since.
    """

    cell: Cell
    trial: TrialState
    holder: str | None
    wall_seconds: float | None = None
    attempt: str | None = None
    stale: str = ""

    @property
    def state(self) -> CellState:
        """Running where a live driver holds an unfinished trial, else what storage says."""
        return "running" if self.holder is not None and self.trial.kind != "done" else self.trial.kind


def never_stale(_spec: TrialSpec, _result: Finished) -> str:
    """The judge who asks nothing."""
    return ""


def survey(table: Table, storage: Storage, judge: Judge = never_stale) -> list[PlannedCell]:
    """The state of every cell, in the table's order; `judge` is asked of every trial that is done."""
    named = [(cell, cell.trial_id) for cell in table.cells()]  # an id is a digest: computed once per cell
    holders = holders_of(live_drivers(storage))
    cells = {name: cell for cell, name in reversed(named)}

    def look(name: str) -> PlannedCell:
        trial, result = read_trial(storage, name)
        planned = PlannedCell(cells[name], trial, holders.get(name))
        if result is None:
            return planned
        stale = judge(cells[name].spec, result)
        return replace(planned, wall_seconds=result.wall_seconds, attempt=result.attempt, stale=stale)

    read = read_each(storage, look, cells)
    return [replace(read[name], cell=cell) for cell, name in named]


def to_run(planned: Iterable[PlannedCell], *, retry_failed: bool) -> list[Cell]:
    """The cells a run trains: missing and partial ones, failed ones when asked; each trial once."""
    wanted = {"missing", "partial"} | ({"failed"} if retry_failed else set())
    cells = {p.cell.trial_id: p.cell for p in reversed(list(planned)) if p.state in wanted}
    return list(reversed(cells.values()))
