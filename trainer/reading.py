"""What storage says of a trial: its state, its history, its results. Loads neither torch nor ray.

A number comes from a sealed record that agrees with itself and its spec, or it is none.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from trainer.consistency import refuse_other_judgements, refuse_other_sizes
from trainer.counts import cut_counts, do_numbers_follow
from trainer.records import (
    Acceptance,
    AcceptedChange,
    Commit,
    DamagedRecord,
    Ending,
    EvaluationRecord,
    Failure,
    Finished,
    Judgement,
    Manifest,
    ProgressRecord,
    Remembered,
    Result,
    ResultInBrief,
    RoundLabels,
    Segment,
    TrainRecord,
    attempt_path,
    checkpoint_name,
    step_of_preview,
    step_of_segment,
    superseded_path,
    trial_path,
)
from trainer.seals import BrokenSeal, unsealed
from trainer.spec import TrialSpec
from trainer.storage import Storage


def find_round_labels(storage: Storage, trial_id: str, step: int) -> list[RoundLabels]:
    """The markers of a round that can be read, in order of name."""
    found = []
    for name in sorted(storage.names(trial_path(trial_id, "labels"))):
        if name.startswith(f"{step:08d}-") and name.endswith(".json"):
            with suppress(DamagedRecord):
                marker = RoundLabels.find(storage, trial_path(trial_id, "labels", name))
                if marker is not None and (marker.trial_id, marker.step) == (trial_id, step):
                    found.append(marker)
    return found


def find_commits(storage: Storage, trial_id: str) -> list[Commit]:
    """The sealed checkpoints of a trial over all its attempts, newest first; damaged markers are left out."""
    commits = []
    for attempt, name in checkpoint_folders(storage, trial_id):
        with suppress(DamagedRecord):
            commit = Commit.find(storage, attempt_path(trial_id, attempt, name, "commit.json"))
            if commit is not None and _lies_at(commit, trial_id, attempt, name):
                commits.append(commit)
    return sorted(commits, key=lambda commit: (commit.step, commit.time), reverse=True)


def checkpoint_folders(storage: Storage, trial_id: str) -> list[tuple[str, str]]:
    """Attempt and name of every checkpoint of a trial, sealed or not, older attempts first."""
    attempts = storage.names(trial_path(trial_id, "attempts"))
    names = ((attempt, name) for attempt in attempts for name in storage.names(attempt_path(trial_id, attempt)))
    return [(attempt, name) for attempt, name in names if name.startswith("checkpoint-")]


def _lies_at(commit: Commit, trial_id: str, attempt: str, name: str) -> bool:
    place = (commit.trial_id, commit.attempt, checkpoint_name(commit.step))
    return place == (trial_id, attempt, name)


def read_manifests(storage: Storage, trial_id: str) -> tuple[list[Manifest], list[str]]:
    """The manifests of a trial by attempt, and a line for each that cannot be read or is another attempt's."""
    manifests, damage = [], []
    for attempt in storage.names(trial_path(trial_id, "attempts")):
        path = attempt_path(trial_id, attempt, "manifest.json")
        try:
            manifest = Manifest.find(storage, path)
            if manifest is not None and (manifest.trial_id, manifest.attempt) != (trial_id, attempt):
                raise DamagedRecord(f"{storage.locate(path)} is that of {manifest.trial_id}, {manifest.attempt}")
        except DamagedRecord as error:
            damage.append(f"manifest not accepted: {error}")
        else:
            manifests += [] if manifest is None else [manifest]
    return manifests, damage


def read_segments(
    storage: Storage, trial_id: str, segments: Sequence[Segment]
) -> Iterator[TrainRecord | EvaluationRecord]:
    """The metric records of a history, in order of steps. Raises: DamagedRecord."""
    return _read_lines(storage, trial_id, segments, lambda line: True)


def read_train_records(storage: Storage, trial_id: str, segments: Sequence[Segment]) -> Iterator[TrainRecord]:
    """As `read_segments`, without the evaluations, whose lines are not looked into. Raises: DamagedRecord."""
    for record in _read_lines(storage, trial_id, segments, lambda line: _EVALUATION not in line):
        if isinstance(record, TrainRecord):
            yield record


def _read_lines(
    storage: Storage, trial_id: str, segments: Sequence[Segment], is_wanted: Callable[[bytes], bool]
) -> Iterator[TrainRecord | EvaluationRecord]:
    step = 0
    for segment in segments:
        path = attempt_path(trial_id, segment.attempt, segment.file)
        try:
            content = storage.read(path)
        except FileNotFoundError as error:
            raise DamagedRecord(f"{storage.locate(path)} is gone, but a checkpoint or result counts on it") from error
        if hashlib.sha256(content).hexdigest() != segment.sha256_of_file:
            raise DamagedRecord(f"{storage.locate(path)} was changed after it was written")
        wanted = filter(is_wanted, content.splitlines())
        for record in _records_in(wanted, where=storage.locate(path)):
            if record.step < step:
                raise DamagedRecord(f"{storage.locate(path)} goes back from step {step} to {record.step}")
            step = record.step
            yield record


def find_previews(
    storage: Storage, trial_id: str, segments: Sequence[Segment], *, passed_over: int = 0
) -> dict[int, str]:
    """The paths of the pictures that belong to a history, by step.

    A picture counts as the records of its step do: an attempt's pictures up to each of its segments, from the segment
    before on. `passed_over` leaves out those of so many first segments.
    """
    names = {attempt: storage.names(attempt_path(trial_id, attempt)) for attempt in {s.attempt for s in segments}}
    found: dict[int, str] = {}
    first = 0
    for number, segment in enumerate(segments):
        last = step_of_segment(segment.file) or first
        for name in names[segment.attempt] if number >= passed_over else ():
            step = step_of_preview(name)
            if step is not None and first < step <= last:
                found[step] = attempt_path(trial_id, segment.attempt, name)
        first = last
    return found


_EVALUATION = b'"kind": "evaluation"'


def _records_in(lines: Iterable[bytes], *, where: str) -> Iterator[TrainRecord | EvaluationRecord]:
    try:
        for line in lines:
            yield _METRIC_RECORD.validate_json(line, strict=True)
    except ValidationError as error:
        raise DamagedRecord(f"{where} holds what is no metric record: {error}") from error


_METRIC_RECORD: TypeAdapter[TrainRecord | EvaluationRecord] = TypeAdapter(
    Annotated[TrainRecord | EvaluationRecord, Field(discriminator="kind")]
)


@dataclass(frozen=True, slots=True)
class TrialState:
    """Where a trial stands, as read from storage: `step` updates are safe; `detail` is one line for a person."""

    kind: Literal["done", "failed", "partial", "missing"]
    step: int = 0
    detail: str = ""


def trial_state(storage: Storage, trial_id: str) -> TrialState:
    """Done is what a valid result says; failed what a failure says; partial has a checkpoint; else missing."""
    return read_trial(storage, trial_id)[0]


def read_trial(storage: Storage, trial_id: str) -> tuple[TrialState, ResultInBrief | None]:
    """The state of a trial, and its result where it is done: one look at storage, so that both say the same."""
    detail = ""
    try:
        result = read_brief(storage, trial_id)
    except DamagedRecord as error:
        result, detail = None, f"result not accepted: {error}"
    if result is not None:
        return TrialState("done", step=result.num_steps), result
    failure = read_failure(storage, trial_id)
    if failure is not None:
        return TrialState("failed", step=failure.step, detail=f"{failure.reason}: {failure.message}"), None
    commits = find_commits(storage, trial_id)
    kind: Literal["partial", "missing"] = "partial" if commits or detail else "missing"
    step = commits[0].step if commits else 0
    return TrialState(kind, step=step, detail=detail or last_words(storage, trial_id)), None


def last_words(storage: Storage, trial_id: str) -> str:
    """What the newest attempt of a trial that is not done said of its end; empty where nothing was tried."""
    attempts = storage.names(trial_path(trial_id, "attempts"))
    if not attempts:
        return ""
    words = read_endings(storage, trial_id, attempts[-1])
    if words:
        first = words[0]  # the other ranks most likely only noticed
        return f"{_ENDINGS[first.kind]} (rank {first.rank}): {first.message}" if first.message else _ENDINGS[first.kind]
    if storage.exists(superseded_path(trial_id, attempts[-1])):
        return f"its result of attempt {attempts[-1]} was set aside, to be trained again"
    progress = read_progress(storage, trial_id, attempts[-1])
    at = f" near step {progress.step}" if progress else ""
    return f"attempt {attempts[-1]} ended{at} without a word: killed, or its machine was lost"


_ENDINGS = {
    "stopped": "asked to stop",
    "refused": "refused",
    "failed": "failed",
    "raised": "broke off",
    "hung": "hung and was ended",
    "out_of_memory": "out of memory, to be tried again with activation checkpointing",
}


def read_endings(storage: Storage, trial_id: str, attempt: str) -> list[Ending]:
    """How the ranks of an attempt ended, in order of time; damaged words are left out."""
    endings = []
    for name in storage.names(attempt_path(trial_id, attempt)):
        if name.startswith("ended-"):
            with suppress(DamagedRecord):
                ending = Ending.find(storage, attempt_path(trial_id, attempt, name))
                endings += [] if ending is None else [ending]
    return sorted(endings, key=lambda ending: ending.time)


def read_progress(storage: Storage, trial_id: str, attempt: str) -> ProgressRecord | None:
    """How far an attempt said it was; None where it never did."""
    with suppress(DamagedRecord):
        return ProgressRecord.find(storage, attempt_path(trial_id, attempt, "progress.json"))
    return None


def read_result(storage: Storage, trial_id: str) -> Result | None:
    """The result of a trial, None where there is none.

    Raises: DamagedRecord, also for another trial's result and for one that contradicts itself or its spec.
    """
    result = Result.find(storage, trial_path(trial_id, "result.json"))
    if result is not None:
        _refuse_strange(result, result.evaluations, trial_id)
    return result


def read_brief(storage: Storage, trial_id: str) -> ResultInBrief | None:
    """As `read_result`, without the counts: they are looked at all the same, in a third of the time.

    What this process has accepted before is not looked at again while its bytes are the same.
    """
    try:
        content = storage.read(trial_path(trial_id, "result.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    brief = _BRIEFS.recall(content, lambda: _brief_at_sight(content, trial_id))
    if brief is not None and brief.trial_id == trial_id:
        return brief
    result = read_result(storage, trial_id)
    return None if result is None else _brief_of(result)


_BRIEFS: Remembered[ResultInBrief | None] = Remembered()


def _brief_at_sight(content: bytes, trial_id: str) -> ResultInBrief | None:
    """A result without its counts, where it is plain to see that nothing is wrong with it; else None."""
    with suppress(BrokenSeal, ValidationError, DamagedRecord):
        rest, texts = cut_counts(unsealed(content))
        brief = ResultInBrief.model_validate_json(rest, strict=True)
        judged = brief.evaluations
        _refuse_strange(brief, judged, trial_id)
        ious, means = [record.class_iou for record in judged], [record.mean_iou for record in judged]
        return brief if do_numbers_follow(texts, len(brief.class_names), ious, means) else None
    return None


def _brief_of(result: Result) -> ResultInBrief:
    """Leave the counts out of a result."""
    evaluations = tuple(
        Judgement(**{name: getattr(record, name) for name in Judgement.model_fields}) for record in result.evaluations
    )
    return ResultInBrief(**{name: getattr(result, name) for name in Finished.model_fields}, evaluations=evaluations)


def _refuse_strange(result: Finished, evaluations: Sequence[Judgement], trial_id: str) -> None:
    """Raises: DamagedRecord for a result that is another trial's or contradicts its spec."""
    try:
        spec = TrialSpec.model_validate(result.spec)
    except ValidationError as error:
        raise DamagedRecord(f"the result of {trial_id} holds an invalid spec: {error}") from error
    if (result.trial_id, spec.trial_id) != (trial_id, trial_id):
        raise DamagedRecord(f"the result in the folder of {trial_id} belongs to {spec.trial_id}")
    if result.num_steps != spec.num_steps:
        raise DamagedRecord(f"the result of {trial_id} is after {result.num_steps} steps, its spec {spec.num_steps}")
    refuse_contradictions(evaluations, result.class_names, spec, until=spec.num_steps)


def refuse_contradictions(
    evaluations: Sequence[Judgement], class_names: Sequence[str], spec: TrialSpec, *, until: int
) -> None:
    """Raises: DamagedRecord where evaluations of a trial's first `until` updates cannot be those its spec asks for."""
    try:
        refuse_other_sizes(spec, [record.eval_size for record in evaluations])
        refuse_other_judgements(spec, [(record.step, record.network) for record in evaluations], until=until)
        for record in evaluations:
            if len(record.class_iou) != len(class_names):
                raise ValueError(f"{len(class_names)} classes are wanted at step {record.step}")
    except ValueError as error:
        raise DamagedRecord(f"the evaluations of {spec.trial_id} contradict each other or its spec: {error}") from error


def read_failure(storage: Storage, trial_id: str) -> Failure | None:
    """The failure of a trial; a damaged one or another trial's does not count."""
    with suppress(DamagedRecord):
        failure = Failure.find(storage, trial_path(trial_id, "failure.json"))
        return failure if failure is not None and failure.trial_id == trial_id else None
    return None


def read_superseded(storage: Storage, trial_id: str) -> tuple[list[Result], list[str]]:
    """The results of a trial that were set aside, by attempt, and a line for each that cannot be read."""
    results, damage = [], []
    for name in storage.names(trial_path(trial_id, "superseded")):
        path = trial_path(trial_id, "superseded", name)
        try:
            result = Result.find(storage, path)
            if result is not None and (result.trial_id, f"{result.attempt}.json") != (trial_id, name):
                raise DamagedRecord(f"{storage.locate(path)} is that of {result.trial_id}, {result.attempt}")
        except DamagedRecord as error:
            damage.append(f"superseded result not accepted: {error}")
        else:
            results += [] if result is None else [result]
    return results, damage


def read_accepted(storage: Storage, trial_id: str) -> tuple[AcceptedChange, ...]:
    """What was accepted of a trial's results, oldest first; a damaged record or another trial's accepts nothing."""
    with suppress(DamagedRecord):
        acceptance = Acceptance.find(storage, trial_path(trial_id, "accepted.json"))
        return acceptance.changes if acceptance is not None and acceptance.trial_id == trial_id else ()
    return ()
