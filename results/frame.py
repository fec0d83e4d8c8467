"""Storage to tidy frames: columns and dtypes are decided here and nowhere else. Knows neither training nor formats.

A number enters a frame from a sealed record only; a damaged result is named in the frame `cells` and counts nowhere.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from results.reading import Reading, read_all
from trainer.records import Judgement, Storage, read_each
from trainer.spec import MEAN, TrialSpec

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
    cells = [(cell, cell.trial_id) for cell in table.cells()]  # an id is a digest: computed once per cell
    ids = [trial_id for _, trial_id in cells]
    read = partial(read_all, storage, include_partial=include_partial)
    found = read_each(storage, read, ids, num_threads=num_threads)
    return Frames(
        results=_results([(cell, name, found[name].class_names, found[name].evaluations) for cell, name in cells]),
        attempts=_frame((line for name in found for line in found[name].attempts), ATTEMPT_COLUMNS),
        cells=_frame((_cell_line(cell, name, found, running, stale) for cell, name in cells), CELL_COLUMNS),
    )


def _frame(lines: Iterable[tuple[Any, ...]], columns: Mapping[str, str]) -> pd.DataFrame:
    values = list(zip(*lines, strict=True)) or [()] * len(columns)
    return pd.DataFrame(
        {name: pd.Series(column, dtype=dtype) for (name, dtype), column in zip(columns.items(), values, strict=True)}
    )


# --- results ------------------------------------------------------------------------------------------------------

Judged = tuple[CellLike, str, Sequence[str], Sequence[Judgement]]
"""A cell, its trial's id, the names of the classes, and what was judged."""


def _results(judged: Iterable[Judged]) -> pd.DataFrame:
    """The lines of each evaluation, built by column: a table may have a million of them."""
    heads: list[tuple[Any, ...]] = []
    names: list[str] = []
    ious: list[float | None] = []
    widths: list[int] = []
    for cell, trial_id, class_names, evaluations in judged:
        spec = cell.spec
        place = (trial_id, cell.row, spec.method.name, str(cell.label_fraction), cell.seed)
        for record in evaluations:
            size = "x".join(map(str, record.eval_size)) + PROTOCOL_WORDS[spec.evaluation.protocol]
            heads.append((*place, record.step, record.network, size, spec.initial_weights))
            widths.append(len(class_names) + 1)
            names += [*class_names, MEAN]
            ious += [*record.class_iou, record.mean_iou]
    columns = (
        dict(zip(_HEAD_COLUMNS, zip(*heads, strict=True), strict=True)) if heads else dict.fromkeys(_HEAD_COLUMNS, ())
    )
    repeats = np.array(widths, dtype=np.int64)
    whole = {name: _repeated(values, repeats, RESULT_COLUMNS[name]) for name, values in columns.items()}
    whole["class_name"] = _repeated(names, np.ones(len(names), dtype=np.int64), "str")
    whole["iou"] = pd.Series(np.array(ious, dtype=np.float64))  # None becomes NaN
    return pd.DataFrame({name: whole[name] for name in RESULT_COLUMNS})


_HEAD_COLUMNS = tuple(name for name in RESULT_COLUMNS if name not in ("class_name", "iou"))


def _repeated(values: Sequence[Any], repeats: np.ndarray, dtype: str) -> pd.Series:
    """A column in which each value stands several times."""
    if dtype != "str":
        return pd.Series(np.repeat(np.array(values, dtype=dtype), repeats))
    words = list(dict.fromkeys(values))  # a few words, many times: each is made once
    places = {word: place for place, word in enumerate(words)}
    codes = np.repeat(np.array([places[value] for value in values], dtype=np.int32), repeats)
    return pd.Series(pa.array(words, type=pa.large_string()).take(pa.array(codes)), dtype="str")


# --- cells --------------------------------------------------------------------------------------------------------


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
