"""Table and storage to cells with their state. Reads storage alone: no Ray, no memory of earlier runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

from experiments.table import Cell, Table
from orchestrator.lease import holders_of, live_drivers
from trainer.reading import TrialState, read_trial
from trainer.side_by_side import read_each
from trainer.spec import TrialSpec
from trainer.storage import Storage


class Done(Protocol):
    """What is asked of a trial that is done."""

    @property
    def trial_id(self) -> str: ...
    @property
    def attempt(self) -> str: ...
    @property
    def wall_seconds(self) -> float: ...


Look = Callable[[str], tuple[TrialState, Done | None]]
"""The state of a trial, and what it says of itself where it is done."""
Judge = Callable[[TrialSpec, Any], str]
"""What has changed since the trial of a spec was done, in words; asked of what the `Look` gave."""
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


def never_stale(_spec: TrialSpec, _done: Done) -> str:
    """The judge who asks nothing."""
    return ""


def survey(table: Table, storage: Storage, judge: Judge = never_stale, look: Look | None = None) -> list[PlannedCell]:
    """The state of every cell, in the table's order.

    Args:
        judge: asked of every trial that is done.
        look: how a trial is looked at; by default everything it says is read.
    """
    holders = holders_of(live_drivers(storage))
    cells = {cell.trial_id: cell for cell in reversed(table.cells())}
    look = look or partial(read_trial, storage)

    def see(name: str) -> PlannedCell:
        trial, done = look(name)
        planned = PlannedCell(cells[name], trial, holders.get(name))
        if done is None:
            return planned
        stale = judge(cells[name].spec, done)
        return replace(planned, wall_seconds=done.wall_seconds, attempt=done.attempt, stale=stale)

    read = read_each(storage, see, cells)
    return [replace(read[cell.trial_id], cell=cell) for cell in table.cells()]


def to_run(planned: Iterable[PlannedCell], *, retry_failed: bool) -> list[Cell]:
    """The cells a run trains: missing and partial ones, failed ones when asked; each trial once."""
    wanted = {"missing", "partial"} | ({"failed"} if retry_failed else set())
    cells = {p.cell.trial_id: p.cell for p in reversed(list(planned)) if p.state in wanted}
    return list(reversed(cells.values()))
