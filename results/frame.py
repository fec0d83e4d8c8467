"""Storage to tidy frames: columns and dtypes are decided here and nowhere else. Knows neither training nor formats.

A number enters a frame from a sealed record only; a damaged result is named in the frame `cells` and counts nowhere.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import pandas as pd

from results.columns import LongFrame, frame_of
from results.reading import Reading, read_all, read_curve
from trainer.records import Judgement
from trainer.side_by_side import read_each
from trainer.spec import MEAN, TrialSpec
from trainer.storage import Storage

PROTOCOL_WORDS = {"resized": "", "full_whole": " (whole images)", "full_sliding": " (sliding windows)"}
"""What is said behind the size that images were judged at; nothing where that is the trained size."""
RESULT_COLUMNS = {
    "trial_id": "str",
    "row": "str",
    "method": "str",
    "label_fraction": "str",
    "seed": "int64",
    "step": "int64",
    "network": "str",
    "class_name": "str",
    "iou": "float64",
    "eval_size": "str",
    "initial_weights": "str",
}
ATTEMPT_COLUMNS = {
    "trial_id": "str",
    "attempt": "str",
    "in_result": "bool",
    "started": "float64",
    "ended": "float64",
    "wall_seconds": "float64",
    "ending": "str",
    "resumed_from_step": "int64",
    "last_step": "int64",
    "kept_step": "int64",
    "device": "str",
    "num_gpus": "float64",
    "world_size": "int64",
    "threads": "int64",
    "host": "str",
    "versions": "str",
    "code_digest": "str",
    "data_digest": "str",
    "split_digest": "str",
    "weights_digest": "str",
    "num_labeled": "int64",
}
CELL_COLUMNS = {
    "row": "str",
    "label_fraction": "str",
    "seed": "int64",
    "trial_id": "str",
    "state": "str",
    "step": "int64",
    "detail": "str",
    "stale": "str",
}


CURVE_COLUMNS = {
    "trial_id": "str",
    "row": "str",
    "label_fraction": "str",
    "seed": "int64",
    "step": "int64",
    "name": "str",
    "value": "float64",
}

NOTHING_STALE: Mapping[str, str] = MappingProxyType({})


class CellLike(Protocol):
    """What is asked of a cell of a table."""

    @property
    def row(self) -> str: ...
    @property
    def label_fraction(self) -> Fraction: ...
    @property
    def seed(self) -> int: ...
    @property
    def spec(self) -> TrialSpec: ...
    @property
    def trial_id(self) -> str: ...


class RowLike(Protocol):
    """What is asked of a row of a table."""

    @property
    def label(self) -> str: ...
    @property
    def group(self) -> int | str: ...


class TableLike(Protocol):
    """What is asked of a table, so that this room does not depend on where tables are declared."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def rows(self) -> Sequence[RowLike]: ...
    @property
    def fractions(self) -> Sequence[Fraction]: ...
    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def published(self) -> str | None: ...
    @property
    def reference_row(self) -> str | None: ...
    @property
    def is_demonstration(self) -> bool: ...
    @property
    def overrides(self) -> Sequence[tuple[str, Any]]: ...
    def cells(self) -> Sequence[CellLike]: ...


@dataclass(frozen=True)
class Frames:
    """What storage says of a table.

    `results`: a row per (trial, step, network, class), "mean" being mean IoU; iou in [0, 1], NaN where undefined.
    `attempts`: a row per readable manifest, its columns as `results.reading.Attempt` says.
    `cells`: a row per cell with its state (done, failed, partial, missing, running), safe step, a line of detail, and
    in `stale` what has changed since it was done ("" where nothing has).
    All are in the order of the table, then by step, network and class, or by attempt.
    """

    results: pd.DataFrame
    attempts: pd.DataFrame
    cells: pd.DataFrame


def read_frames(
    storage: Storage,
    table: TableLike,
    *,
    include_partial: bool = False,
    running: Collection[str] = (),
    stale: Mapping[str, str] = NOTHING_STALE,
    num_threads: int | None = None,
) -> Frames:
    """Read everything that storage holds of a table.

    Args:
        include_partial: put the newest commit's evaluations of partial trials into `results` (averaged nowhere).
        running: trial ids that somebody works on now; those not done get the state "running".
        stale: by trial id, what has changed since a trial was done.
        num_threads: how many trials are read side by side; by default what suits the storage.
    """
    cells = [(cell, cell.trial_id) for cell in table.cells()]
    ids = [trial_id for _, trial_id in cells]
    read = partial(read_all, storage, include_partial=include_partial)
    found = read_each(storage, read, ids, num_threads=num_threads, is_pure=True)
    return Frames(
        results=results_frame((cell, found[name].class_names, found[name].evaluations) for cell, name in cells),
        attempts=frame_of((line for name in found for line in found[name].attempts), ATTEMPT_COLUMNS),
        cells=frame_of((_cell_line(cell, name, found, running, stale) for cell, name in cells), CELL_COLUMNS),
    )


Judged = tuple[CellLike, Sequence[str], Sequence[Judgement]]
"""A cell, the names of the classes, and what was judged of its trial."""


def results_frame(judged: Iterable[Judged]) -> pd.DataFrame:
    """The lines of `Frames.results`, in the order in which they are given."""
    frame = LongFrame(RESULT_COLUMNS, name="class_name", value="iou")
    for cell, class_names, evaluations in judged:
        spec, names = cell.spec, [*class_names, MEAN]
        place = (cell.trial_id, cell.row, spec.method.name, str(cell.label_fraction), cell.seed)
        for record in evaluations:
            size = "x".join(map(str, record.eval_size)) + PROTOCOL_WORDS[spec.evaluation.protocol]
            head = (*place, record.step, record.network, size, spec.initial_weights)
            frame.add(head, names, [*record.class_iou, record.mean_iou])
    return frame.frame()


def read_curves(storage: Storage, table: TableLike, *, include_partial: bool = False) -> pd.DataFrame:
    """The means of training scalars of every trial that is done: a row per (cell, step, scalar).

    A trial whose history is damaged or gone has no lines; `mixgrid verify` names it.

    Args:
        include_partial: those of trials that are half done as well, up to their newest readable checkpoint.
    """
    cells = [(cell, cell.trial_id) for cell in table.cells()]
    read = partial(read_curve, storage, include_partial=include_partial)
    found = read_each(storage, read, [trial_id for _, trial_id in cells], is_pure=True)
    frame = LongFrame(CURVE_COLUMNS, name="name", value="value")
    for cell, trial_id in cells:
        for record in found[trial_id]:
            head = (trial_id, cell.row, str(cell.label_fraction), cell.seed, record.step)
            frame.add(head, list(record.scalars), list(record.scalars.values()))
    return frame.frame()


def _cell_line(
    cell: CellLike,
    trial_id: str,
    found: Mapping[str, Reading],
    running: Collection[str],
    stale: Mapping[str, str],
) -> tuple[Any, ...]:
    state = found[trial_id].state
    kind = "running" if state.kind != "done" and trial_id in running else state.kind
    changed = stale.get(trial_id, "") if kind == "done" else ""
    return (cell.row, str(cell.label_fraction), cell.seed, trial_id, kind, state.step, state.detail, changed)
