"""Table and storage to cells with their state. Reads storage alone: no Ray, no memory of earlier runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from experiments.table import Cell, Table
from orchestrator.lease import holders_of, live_drivers
from trainer.records import ResultInBrief, Storage, TrialState, read_each, read_trial

CellState = Literal["done", "failed", "partial", "missing", "running"]


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell, what storage says of its trial, and the live driver that holds it.

    `wall_seconds` and `attempt` are those of a trial that is done: its whole time, and the attempt that ended it.
    """

    cell: Cell
    trial: TrialState
    holder: str | None
    wall_seconds: float | None = None
    attempt: str | None = None

    @property
    def state(self) -> CellState:
        """Running where a live driver holds an unfinished trial, else what storage says."""
        return "running" if self.holder is not None and self.trial.kind != "done" else self.trial.kind


def survey(table: Table, storage: Storage) -> list[PlannedCell]:
    """The state of every cell, in the table's order."""
    named = [(cell, cell.trial_id) for cell in table.cells()]  # an id is a digest: computed once per cell
    holders = holders_of(live_drivers(storage))
    read = read_each(storage, lambda trial_id: read_trial(storage, trial_id), [name for _, name in named])
    return [_planned(cell, *read[name], holders.get(name)) for cell, name in named]


def _planned(cell: Cell, trial: TrialState, result: ResultInBrief | None, holder: str | None) -> PlannedCell:
    if result is None:
        return PlannedCell(cell, trial, holder)
    return PlannedCell(cell, trial, holder, wall_seconds=result.wall_seconds, attempt=result.attempt)


def to_run(planned: Iterable[PlannedCell], *, retry_failed: bool) -> list[Cell]:
    """The cells a run trains: missing and partial ones, failed ones when asked; each trial once."""
    wanted = {"missing", "partial"} | ({"failed"} if retry_failed else set())
    cells = {p.cell.trial_id: p.cell for p in reversed(list(planned)) if p.state in wanted}
    return list(reversed(cells.values()))
