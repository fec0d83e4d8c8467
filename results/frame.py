"""Storage to tidy frames: columns and dtypes are decided here and nowhere else. Knows neither training nor formats.

A number enters a frame from a sealed record only; a damaged result is named in the frame `cells` and counts nowhere.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Protocol

import pandas as pd

from trainer.records import (
    DamagedRecord,
    EvaluationRecord,
    Manifest,
    Storage,
    TrialState,
    find_commits,
    read_manifests,
    read_segments,
    read_trial,
    trial_path,
)
from trainer.spec import MEAN, TrialSpec

NETWORKS = ("student", "teacher")
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
    "resumed_from_step": "int64",
    "device": "str",
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
    `attempts`: a row per readable manifest; `in_result` where the trial's result stands on that attempt.
    `cells`: a row per cell with its state (done, failed, partial, missing, running), safe step, a line of detail, and
    in `stale` what has changed since it was done ("" where nothing has).
    All are in the order of the table, then by step, network and class, or by attempt.
    """

    results: pd.DataFrame
    attempts: pd.DataFrame
    cells: pd.DataFrame


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one trial left: its state, judged history, manifests, and the attempts its result stands on."""

    state: TrialState
    class_names: tuple[str, ...] = ()
    evaluations: tuple[EvaluationRecord, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    counted: frozenset[str] = frozenset()


def read_frames(
    storage: Storage,
    table: TableLike,
    *,
    include_partial: bool = False,
    running: Collection[str] = (),
    stale: Mapping[str, str] = NOTHING_STALE,
    num_threads: int = 8,
) -> Frames:
    """Read everything that storage holds of a table.

    Args:
        include_partial: put the newest commit's evaluations of partial trials into `results` (averaged nowhere).
        running: trial ids that somebody works on now; those not done get the state "running".
        stale: by trial id, what has changed since a trial was done.
    """
    cells = [(cell, cell.trial_id) for cell in table.cells()]  # an id is a digest: computed once per cell
    ids = list(dict.fromkeys(trial_id for _, trial_id in cells))
    if not ids:
        return Frames(*(_frame([], columns) for columns in (RESULT_COLUMNS, ATTEMPT_COLUMNS, CELL_COLUMNS)))
    with ThreadPoolExecutor(num_threads) as pool:
        readings = pool.map(lambda trial_id: _read_trial(storage, trial_id, include_partial), ids)
        found = dict(zip(ids, readings, strict=True))
    return Frames(
        results=_frame((line for cell, name in cells for line in _result_lines(cell, name, found)), RESULT_COLUMNS),
        attempts=_frame((line for name in ids for line in _attempt_lines(found[name])), ATTEMPT_COLUMNS),
        cells=_frame((_cell_line(cell, name, found, running, stale) for cell, name in cells), CELL_COLUMNS),
    )


def _frame(lines: Iterable[tuple[Any, ...]], columns: Mapping[str, str]) -> pd.DataFrame:
    values = list(zip(*lines, strict=True)) or [()] * len(columns)
    return pd.DataFrame(
        {name: pd.Series(column, dtype=dtype) for (name, dtype), column in zip(columns.items(), values, strict=True)}
    )


# --- one trial ----------------------------------------------------------------------------------------------------


def _read_trial(storage: Storage, trial_id: str, include_partial: bool) -> _Reading:
    reading = _read_state(storage, trial_id)
    manifests, damage = read_manifests(storage, trial_id)
    if include_partial and reading.state.kind == "partial":
        reading = _with_history(storage, trial_id, reading, manifests)
    details = " ".join("; ".join(text for text in (reading.state.detail, *damage) if text).split())
    # A detail names places inside the storage: the same records print the same bytes wherever the storage lies.
    detail = details.replace(storage.locate(trial_path(trial_id)), trial_path(trial_id))
    return replace(reading, manifests=tuple(manifests), state=replace(reading.state, detail=detail))


def _read_state(storage: Storage, trial_id: str) -> _Reading:
    state, result = read_trial(storage, trial_id)
    if result is None:
        return _Reading(state)
    counted = frozenset({result.attempt, *(segment.attempt for segment in result.segments)})
    return _Reading(state, result.class_names, _in_order(result.evaluations), counted=counted)


def _with_history(storage: Storage, trial_id: str, reading: _Reading, manifests: Sequence[Manifest]) -> _Reading:
    """Add what was judged up to the newest commit whose history can be read; as it was where there is none."""
    names = {manifest.attempt: manifest.class_names for manifest in manifests}
    for commit in find_commits(storage, trial_id):
        with suppress(DamagedRecord):
            history = read_segments(storage, trial_id, commit.segments)
            judged = [record for record in history if isinstance(record, EvaluationRecord)]
            found = names.get(commit.attempt, ())
            if found and all(len(record.class_iou) == len(found) for record in judged):
                return replace(reading, class_names=found, evaluations=_in_order(judged))
    return reading


def _in_order(evaluations: Iterable[EvaluationRecord]) -> tuple[EvaluationRecord, ...]:
    return tuple(sorted(evaluations, key=lambda record: (record.step, NETWORKS.index(record.network))))


# --- lines of the frames ------------------------------------------------------------------------------------------


def _result_lines(cell: CellLike, trial_id: str, found: Mapping[str, _Reading]) -> Iterator[tuple[Any, ...]]:
    spec, reading = cell.spec, found[trial_id]
    head = (trial_id, cell.row, spec.method.name, str(cell.label_fraction), cell.seed)
    for record in reading.evaluations:
        size = "x".join(map(str, record.eval_size)) + PROTOCOL_WORDS[spec.evaluation.protocol]
        ious = zip((*reading.class_names, MEAN), (*record.class_iou, record.mean_iou), strict=True)
        for name, iou in ious:
            value = float("nan") if iou is None else iou
            yield (*head, record.step, record.network, name, value, size, spec.initial_weights)


def _attempt_lines(reading: _Reading) -> Iterator[tuple[Any, ...]]:
    for manifest in reading.manifests:
        yield (
            manifest.trial_id,
            manifest.attempt,
            manifest.attempt in reading.counted,
            manifest.started,
            manifest.resumed_from_step,
            manifest.device,
            manifest.world_size,
            manifest.threads,
            manifest.host,
            json.dumps(manifest.versions, sort_keys=True),
            manifest.digests.code,
            manifest.digests.data,
            manifest.digests.split,
            manifest.digests.weights,
            manifest.num_labeled,
        )


def _cell_line(
    cell: CellLike,
    trial_id: str,
    found: Mapping[str, _Reading],
    running: Collection[str],
    stale: Mapping[str, str],
) -> tuple[Any, ...]:
    state = found[trial_id].state
    kind = "running" if state.kind != "done" and trial_id in running else state.kind
    changed = stale.get(trial_id, "") if kind == "done" else ""
    return (cell.row, str(cell.label_fraction), cell.seed, trial_id, kind, state.step, state.detail, changed)
