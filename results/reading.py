"""What one trial left in storage: its state, its judged history, its attempts and how each of them ended.

Knows neither frames nor formats, so that a command which prints a line need not load them.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from trainer.reading import (
    TrialState,
    find_commits,
    read_endings,
    read_manifests,
    read_progress,
    read_segments,
    read_train_records,
    read_trial,
)
from trainer.records import (
    Commit,
    DamagedRecord,
    Ending,
    EndingKind,
    EvaluationRecord,
    Judgement,
    Manifest,
    ResultInBrief,
    Segment,
    TrainRecord,
    step_of_segment,
    trial_path,
)
from trainer.storage import Storage

NETWORKS = ("student", "teacher")
EndingWord = Literal[EndingKind, "finished", "silent"]


class Attempt(NamedTuple):
    """One go at a trial, as a line of the frame of attempts.

    `ended` is its last sign of life in unix seconds, and `ending` how that was: "finished" where it wrote the result,
    "silent" where it was killed or still works, else the word it left. `last_step` is how far it is known to have come,
    `kept_step` how far its work stands in the result, or in the newest checkpoint of a trial that is not done; the step
    it began at where none of it does. `in_result`: the trial's result stands on it. `num_gpus` are those of all its
    ranks, NaN where it ran on GPUs and the share of a rank was not recorded.
    """

    trial_id: str
    attempt: str
    in_result: bool
    started: float
    ended: float
    wall_seconds: float
    ending: EndingWord
    resumed_from_step: int
    last_step: int
    kept_step: int
    device: str
    num_gpus: float
    world_size: int
    threads: int
    host: str
    versions: str
    code_digest: str
    data_digest: str
    split_digest: str
    weights_digest: str
    num_labeled: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What one trial left; `segments` are the history of the result or of the newest checkpoint."""

    state: TrialState
    class_names: tuple[str, ...] = ()
    evaluations: tuple[Judgement, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    segments: tuple[Segment, ...] = ()


def read_all(storage: Storage, trial_id: str, *, include_partial: bool = False) -> Reading:
    """Read a trial; with what was judged up to the newest readable commit where it is half done, if asked for."""
    state, result = read_trial(storage, trial_id)
    commits = [] if result is not None else find_commits(storage, trial_id)
    manifests, damage = read_manifests(storage, trial_id)
    attempts = attempts_of(storage, manifests, result, commits)
    details = " ".join("; ".join(text for text in (state.detail, *damage) if text).split())
    # A detail names places inside the storage: the same records print the same bytes wherever the storage lies.
    detail = details.replace(storage.locate(trial_path(trial_id)), trial_path(trial_id))
    reading = Reading(replace(state, detail=detail), attempts=attempts)
    if result is not None:
        return replace(
            reading,
            class_names=result.class_names,
            evaluations=in_order(result.evaluations),
            segments=result.segments,
        )
    if include_partial and state.kind == "partial":
        class_names = {manifest.attempt: manifest.class_names for manifest in manifests}
        return _with_history(storage, reading, commits, class_names)
    return reading


def _with_history(
    storage: Storage, reading: Reading, commits: Sequence[Commit], class_names: Mapping[str, tuple[str, ...]]
) -> Reading:
    """Add what was judged up to the newest commit whose history can be read; as it was where there is none."""
    for commit in commits:
        with suppress(DamagedRecord):
            history = read_segments(storage, commit.trial_id, commit.segments)
            judged = [record for record in history if isinstance(record, EvaluationRecord)]
            found = class_names.get(commit.attempt, ())
            if found and all(len(record.class_iou) == len(found) for record in judged):
                evaluations = in_order(judged)
                return replace(reading, class_names=found, evaluations=evaluations, segments=commit.segments)
    return reading


def read_curve(storage: Storage, trial_id: str, *, include_partial: bool = False) -> list[TrainRecord]:
    """The training records of a done trial's history, of a half done one's too if asked for; none of a damaged one."""
    state, result = read_trial(storage, trial_id)
    histories = [] if result is None else [result.segments]
    if include_partial and state.kind == "partial":
        histories = [commit.segments for commit in find_commits(storage, trial_id)]
    for segments in histories:
        with suppress(DamagedRecord):
            return list(read_train_records(storage, trial_id, segments))
    return []


def in_order(evaluations: Iterable[Judgement]) -> tuple[Judgement, ...]:
    """By step, and the student first."""
    return tuple(sorted(evaluations, key=lambda record: (record.step, NETWORKS.index(record.network))))


# --- attempts -----------------------------------------------------------------------------------------------------


def attempts_of(
    storage: Storage, manifests: Iterable[Manifest], result: ResultInBrief | None, commits: Sequence[Commit]
) -> tuple[Attempt, ...]:
    """What is known of the attempts behind these manifests; `commits` are a trial's that is not done."""
    kept = _kept_steps(result, commits)
    return tuple(_attempt_of(storage, manifest, result, commits, kept) for manifest in manifests)


def _attempt_of(
    storage: Storage,
    manifest: Manifest,
    result: ResultInBrief | None,
    commits: Sequence[Commit],
    kept: Mapping[str, int],
) -> Attempt:
    """What is known of an attempt; `commits` are a trial's that is not done, `kept` says how far attempts stand."""
    name = manifest.attempt
    signs: list[tuple[float, int]] = [(manifest.started, manifest.resumed_from_step)]
    if result is not None and result.attempt == name:
        signs.append((result.finished, result.num_steps))
        ending: EndingWord = "finished"
    else:
        words = _words_of(storage, manifest)
        ending = words[0].kind if words else "silent"  # the other ranks most likely only noticed
        signs += [(word.time, word.step) for word in words] + _signs_of_life(storage, manifest)
        signs += [(commit.time, commit.step) for commit in commits if commit.attempt == name]
    ended = max(time for time, _ in signs)
    kept_step = max(kept.get(name, 0), manifest.resumed_from_step)
    return Attempt(
        trial_id=manifest.trial_id,
        attempt=name,
        in_result=result is not None and name in kept,
        started=manifest.started,
        ended=ended,
        wall_seconds=ended - manifest.started,
        ending=ending,
        resumed_from_step=manifest.resumed_from_step,
        last_step=max(kept_step, *(step for _, step in signs)),
        kept_step=kept_step,
        device=manifest.device,
        num_gpus=_num_gpus(manifest),
        world_size=manifest.world_size,
        threads=manifest.threads,
        host=manifest.host,
        versions=json.dumps(manifest.versions, sort_keys=True),
        code_digest=manifest.digests.code,
        data_digest=manifest.digests.data,
        split_digest=manifest.digests.split,
        weights_digest=manifest.digests.weights,
        num_labeled=manifest.num_labeled,
    )


def _num_gpus(manifest: Manifest) -> float:
    if is_cpu(manifest.device):
        return 0.0
    share = manifest.options.get("gpus_per_worker")
    return manifest.world_size * float(share) if isinstance(share, int | float) and share > 0 else math.nan


def is_cpu(device: str) -> bool:
    """Whether a device's name is that of a processor."""
    return device == "cpu" or device.startswith("cpu ")


def _kept_steps(result: ResultInBrief | None, commits: Sequence[Commit]) -> dict[str, int]:
    """Up to which step the work of each attempt stands in the result, or in the newest checkpoint."""
    if result is None and not commits:
        return {}
    segments = commits[0].segments if result is None else result.segments
    files = {segment.attempt: segment.file for segment in segments}  # of several the last stays
    last = (commits[0].attempt, commits[0].step) if result is None else (result.attempt, result.num_steps)
    return {**{attempt: step_of_segment(file) for attempt, file in files.items()}, last[0]: last[1]}


def _signs_of_life(storage: Storage, manifest: Manifest) -> list[tuple[float, int]]:
    """When an attempt said how far it was, and how far."""
    progress = read_progress(storage, manifest.trial_id, manifest.attempt)
    is_its_own = progress is not None and (progress.trial_id, progress.attempt) == (manifest.trial_id, manifest.attempt)
    return [(progress.time, progress.step)] if progress is not None and is_its_own else []


def _words_of(storage: Storage, manifest: Manifest) -> list[Ending]:
    """What its ranks said of their end, in order of time."""
    place = manifest.trial_id, manifest.attempt
    return [word for word in read_endings(storage, *place) if (word.trial_id, word.attempt) == place]
