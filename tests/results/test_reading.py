"""How far each attempt came, how it ended, and what of it stands."""

import math
from typing import Any

import pytest

from results.reading import Attempt, read_all
from tests.results.builders import ATTEMPT, digests, judged, put_done, put_failed, put_manifest, put_partial, spec_of
from trainer.records import (
    Commit,
    Ending,
    Manifest,
    ProgressRecord,
    Result,
    Segment,
    attempt_path,
    checkpoint_name,
    ending_name,
    segment_name,
    step_of_segment,
    trial_path,
)
from trainer.storage import Storage

SPEC = spec_of("ComplexMix")
TRIAL = SPEC.trial_id
FIRST, SECOND = "20250101T000000-first", "20250102T000000-second"


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "runs"))


def change(storage: Storage, attempt: str, **fields: Any) -> None:
    path = attempt_path(TRIAL, attempt, "manifest.json")
    manifest = Manifest.find(storage, path)
    storage.write(path, manifest.model_copy(update=fields).sealed())


def put_progress(storage: Storage, attempt: str, step: int, time: float, *, trial_id: str = TRIAL) -> None:
    record = ProgressRecord(
        trial_id=trial_id, attempt=attempt, step=step, num_steps=20, steps_per_second=1.0, time=time
    )
    storage.write(attempt_path(TRIAL, attempt, "progress.json"), record.sealed())


def put_ending(storage: Storage, attempt: str, kind: str, step: int, time: float, rank: int = 0) -> None:
    record = Ending(
        trial_id=TRIAL, attempt=attempt, rank=rank, kind=kind, message="", trace_tail="", step=step, time=time
    )
    storage.write(attempt_path(TRIAL, attempt, ending_name(rank)), record.sealed())


def put_lineage(storage: Storage, *segments: tuple[str, int]) -> None:
    """Let the result stand on these segments."""
    result = trial_path(TRIAL, "result.json")
    named = tuple(Segment(attempt=a, file=segment_name(step), sha256_of_file="0") for a, step in segments)
    storage.write(result, Result.find(storage, result).model_copy(update={"segments": named}).sealed())


def only(storage: Storage) -> Attempt:
    (attempt,) = read_all(storage, TRIAL).attempts
    return attempt


def test_the_attempt_that_wrote_the_result_is_finished_and_all_of_it_stands(storage):
    put_done(storage, SPEC)
    attempt = only(storage)
    assert (attempt.ending, attempt.in_result) == ("finished", True)
    assert (attempt.resumed_from_step, attempt.last_step, attempt.kept_step) == (0, 20, 20)
    assert (attempt.started, attempt.ended, attempt.wall_seconds) == (1.0, 2.0, 1.0)


def test_of_an_attempt_that_another_went_on_from_only_the_steps_before_stand(storage):
    put_manifest(storage, SPEC, attempt=FIRST)
    put_progress(storage, FIRST, 14, 15.0)
    put_done(storage, SPEC)
    change(storage, ATTEMPT, resumed_from_step=10, resumed_from_attempt=FIRST)
    put_lineage(storage, (FIRST, 5), (FIRST, 10), (ATTEMPT, 20))
    first, last = read_all(storage, TRIAL).attempts
    assert (first.ending, first.in_result, first.ended) == ("silent", True, 15.0)
    assert (first.resumed_from_step, first.last_step, first.kept_step) == (0, 14, 10)
    assert (last.resumed_from_step, last.last_step, last.kept_step) == (10, 20, 20)


def test_an_attempt_that_the_result_does_not_stand_on_keeps_nothing(storage):
    put_manifest(storage, SPEC, attempt=FIRST)
    change(storage, FIRST, resumed_from_step=5)
    put_progress(storage, FIRST, 14, 15.0)
    put_done(storage, SPEC)
    first, _ = read_all(storage, TRIAL).attempts
    assert (first.in_result, first.last_step, first.kept_step) == (False, 14, 5)


def test_a_half_done_trial_stands_on_its_newest_checkpoint(storage):
    put_partial(storage, SPEC, judged(10, 0.5), step=10)
    put_progress(storage, ATTEMPT, 13, 9.0)
    attempt = only(storage)
    assert (attempt.ending, attempt.in_result, attempt.kept_step, attempt.last_step) == ("silent", False, 10, 13)
    assert attempt.ended == 9.0


def test_a_checkpoint_is_a_sign_of_life_too(storage):
    put_manifest(storage, SPEC)
    commit = Commit(
        trial_id=TRIAL,
        attempt=ATTEMPT,
        step=5,
        time=77.0,
        digests=digests(),
        world_size=1,
        wall_seconds=1.0,
        files={},
        segments=(),
    )
    storage.write(attempt_path(TRIAL, ATTEMPT, checkpoint_name(5), "commit.json"), commit.sealed())
    assert (only(storage).ended, only(storage).last_step, only(storage).kept_step) == (77.0, 5, 5)


def test_the_first_word_says_how_it_ended_and_the_last_one_when(storage):
    put_manifest(storage, SPEC)
    put_ending(storage, ATTEMPT, "raised", 7, 12.0, rank=1)
    put_ending(storage, ATTEMPT, "hung", 5, 11.0, rank=0)
    put_progress(storage, ATTEMPT, 8, 12.5)
    assert (only(storage).ending, only(storage).ended, only(storage).last_step) == ("hung", 12.5, 8)


def test_an_attempt_that_left_nothing_but_its_manifest_took_no_known_time(storage):
    put_manifest(storage, SPEC)
    put_failed(storage, SPEC)
    assert (only(storage).ending, only(storage).wall_seconds, only(storage).last_step) == ("silent", 0.0, 0)


def test_what_another_trial_says_is_no_sign_of_life(storage):
    put_manifest(storage, SPEC)
    put_progress(storage, ATTEMPT, 13, 9.0, trial_id="supervised-000000000000")
    put_progress(storage, SECOND, 13, 9.0)
    assert only(storage).wall_seconds == 0.0


@pytest.mark.parametrize(
    ("device", "options", "world_size", "num_gpus"),
    [
        ("cpu (x86_64)", {}, 2, 0.0),
        ("cpu", {"gpus_per_worker": 1.0}, 1, 0.0),
        ("NVIDIA H100", {"gpus_per_worker": 1.0}, 4, 4.0),
        ("NVIDIA H100", {"gpus_per_worker": 0.25}, 1, 0.25),
        ("NVIDIA H100", {"gpus_per_worker": None}, 2, math.nan),
        ("NVIDIA H100", {}, 2, math.nan),
        ("NVIDIA H100", {"gpus_per_worker": "all"}, 2, math.nan),
    ],
)
def test_gpus_are_those_of_all_ranks_and_unknown_where_nobody_said(storage, device, options, world_size, num_gpus):
    put_manifest(storage, SPEC)
    change(storage, ATTEMPT, device=device, options=options, world_size=world_size)
    assert only(storage).num_gpus == pytest.approx(num_gpus, nan_ok=True)


def test_the_file_of_a_segment_says_its_step():
    assert step_of_segment(segment_name(40_000)) == 40_000
    assert [step_of_segment(name) for name in ("metrics-7.jsonl", "x", "metrics-0000000x.jsonl", "9" * 90)] == [0] * 4
