"""Derives every number of a table again from what lies below it. Knows neither training nor formats."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from results.frame import CellLike, TableLike
from results.staleness import Freshness, HereLike, judge
from trainer.consistency import ious_of
from trainer.reading import (
    read_result,
    read_segments,
    read_superseded,
)
from trainer.records import (
    DamagedRecord,
    EvaluationRecord,
    Manifest,
    Record,
    Result,
    TrainRecord,
    attempt_path,
    trial_path,
)
from trainer.storage import Storage

Kind = Literal["drift", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit: "drift" puts a number in doubt, a "note" is to be known."""

    kind: Kind
    trial_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at and what was found."""

    num_done: int
    num_open: int
    num_evaluations: int
    findings: tuple[Finding, ...]

    @property
    def has_drift(self) -> bool:
        """Whether a number is in doubt."""
        return any(finding.kind == "drift" for finding in self.findings)


def verify(storage: Storage, table: TableLike, *, here: HereLike | None = None, num_threads: int = 8) -> Verification:
    """Check every cell: seals, the spec behind the id, IoUs from counts, the history, weights, digests of attempts.

    Args:
        here: the machine whose code, images, weights and libraries are compared with those of the trials, in notes.
    """
    cells: dict[str, CellLike] = {cell.trial_id: cell for cell in table.cells()}
    with ThreadPoolExecutor(num_threads) as pool:
        looked = list(pool.map(lambda cell: _verify_trial(storage, cell, here), cells.values()))
    findings = [finding for _, _, found in looked for finding in found]
    num_done = sum(is_done for is_done, _, _ in looked)
    return Verification(num_done, len(looked) - num_done, sum(count for _, count, _ in looked), tuple(findings))


def _verify_trial(storage: Storage, cell: CellLike, here: HereLike | None) -> tuple[bool, int, list[Finding]]:
    trial_id = cell.trial_id
    aside = [Finding("note", trial_id, text) for text in _notes_of_superseded(storage, trial_id)]
    try:
        result = read_result(storage, trial_id)
    except DamagedRecord as error:
        return False, 0, [Finding("drift", trial_id, str(error)), *aside]
    if result is None:
        return False, 0, aside
    doubts = [*_doubts_of_numbers(result), *_doubts_of_history(storage, result), *_doubts_of_weights(storage, result)]
    notes = list(_notes_of_origin(storage, result))
    if here is not None:
        notes += _notes_of_freshness(judge(storage, cell.spec, result, here))
    found = [Finding("drift", trial_id, text) for text in doubts] + [Finding("note", trial_id, text) for text in notes]
    return True, len(result.evaluations), [*found, *aside]


def _doubts_of_numbers(result: Result) -> Iterator[str]:
    for record in result.evaluations:
        ious = ious_of(record.confusion)
        defined = [iou for iou in ious if iou is not None]
        mean = sum(defined) / len(defined) if defined else None
        where = f"{record.network} at step {record.step}"
        if not all(_is_close(mine, theirs) for mine, theirs in zip(ious, record.class_iou, strict=True)):
            yield f"class IoUs of the {where} do not follow from their confusion matrix"
        if not _is_close(mean, record.mean_iou):
            yield f"mean IoU of the {where} is {record.mean_iou}, its confusion matrix gives {mean}"


def _is_close(mine: float | None, theirs: float | None) -> bool:
    return mine is theirs if mine is None or theirs is None else abs(mine - theirs) <= 1e-12


def _doubts_of_history(storage: Storage, result: Result) -> Iterator[str]:
    """The metric records of all attempts that count must tell the same story as the result."""
    try:
        history: Sequence[Record] = list(read_segments(storage, result.trial_id, result.segments))
    except DamagedRecord as error:
        yield str(error)
        return
    judged = [record for record in history if isinstance(record, EvaluationRecord)]
    if judged != list(result.evaluations):
        yield f"its metric records hold {len(judged)} evaluations that are not the {len(result.evaluations)} it counts"
    steps = [record.step for record in history if isinstance(record, TrainRecord)]
    if steps != sorted(set(steps)):
        yield "a training step is recorded twice or out of order"
    if steps and steps[-1] != result.num_steps:
        yield f"its training records end at step {steps[-1]} of {result.num_steps}"


def _doubts_of_weights(storage: Storage, result: Result) -> Iterator[str]:
    if result.weights_sha256 is None:
        return
    path = trial_path(result.trial_id, "weights.pt")
    try:
        digest = hashlib.sha256(storage.read(path)).hexdigest()
    except FileNotFoundError:
        yield f"{storage.locate(path)} is gone"
        return
    if digest != result.weights_sha256:
        yield f"{storage.locate(path)} is not what the trial ended with (its sha256 does not fit)"


def _notes_of_superseded(storage: Storage, trial_id: str) -> Iterator[str]:
    """What was set aside carries no number of the table; it is read all the same, so that rot is noticed."""
    results, damage = read_superseded(storage, trial_id)
    yield from damage
    for old in results:
        doubts = [*_doubts_of_numbers(old), *_doubts_of_history(storage, old)]
        yield f"a result of attempt {old.attempt} was set aside" + (f", and is in doubt: {doubts[0]}" if doubts else "")


def _notes_of_freshness(found: Freshness) -> Iterator[str]:
    if found.text:
        yield f"stale: {found.text}"
    if found.accepted:
        yield f"accepted: {'; '.join(change.text for change in found.accepted)}"


def _notes_of_origin(storage: Storage, result: Result) -> Iterator[str]:
    """What a reader of the number should know of its attempts: mixed origins, and manifests that are gone."""
    for attempt in dict.fromkeys((*(segment.attempt for segment in result.segments), result.attempt)):
        try:
            manifest = Manifest.find(storage, attempt_path(result.trial_id, attempt, "manifest.json"))
        except DamagedRecord as error:
            yield str(error)
            continue
        if manifest is None:
            yield f"attempt {attempt} left no manifest: where it ran is not known"
        elif changed := _changed(manifest, result):
            yield f"attempt {attempt} ran on another {changed} than the last one (--accept-change)"


def _changed(manifest: Manifest, result: Result) -> str:
    before, last = manifest.digests.model_dump(), result.digests.model_dump()
    return ", ".join(name for name in last if before[name] != last[name])
