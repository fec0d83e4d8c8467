"""What a trial leaves: sealed records, and, read from storage alone (`reading.py`), histories and a state."""

import gc
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import records
from trainer.reading import (
    find_commits,
    find_previews,
    read_brief,
    read_failure,
    read_result,
    read_segments,
    trial_state,
)
from trainer.records import (
    Commit,
    DamagedRecord,
    Digests,
    EvaluationRecord,
    Failure,
    FileSeal,
    Record,
    Result,
    Segment,
    TrainRecord,
    attempt_path,
    checkpoint_name,
    new_attempt_name,
    segment_name,
    step_of_preview,
    trial_path,
    write_segment,
)
from trainer.side_by_side import read_each
from trainer.spec import TrialSpec
from trainer.storage import Storage

SPEC = TrialSpec(label_fraction=Fraction(1, 8), seed=3)
TRIAL, ATTEMPT = SPEC.trial_id, "20260101T000000-aaaaaaaa"
DIGESTS = Digests(code="c", data="d", split="s", weights="w", precision="float32")
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FAILURE = Failure(
    trial_id=TRIAL,
    attempt=ATTEMPT,
    reason="non_finite_loss",
    message="loss is not finite, says “Müller”",
    trace_tail="…",
    step=7,
    failed=1.25e9,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return Storage(str(tmp_path / "runs"))


def evaluation(step: int) -> EvaluationRecord:
    """A judgement with an undefined class."""
    return EvaluationRecord(
        step=step,
        time=2.5,
        network="student",
        confusion=((3, 1, 0), (0, 0, 0), (0, 0, 0)),
        class_iou=(0.75, 0.0, None),
        mean_iou=0.375,
        num_undefined=1,
        eval_size=(512, 1024),
    )


def result_of(**changes: Any) -> Result:
    """The result of SPEC."""
    fields: dict[str, Any] = {
        "trial_id": TRIAL,
        "attempt": ATTEMPT,
        "num_steps": 40_000,
        "finished": 2.0,
        "wall_seconds": 1.0,
        "spec": SPEC.model_dump(mode="json"),
        "class_names": ("a", "b", "c"),
        "digests": DIGESTS,
        "evaluations": tuple(evaluation(step) for step in range(5000, 40_001, 5000)),
        "segments": (),
        "weights_sha256": None,
    }
    return Result(**{**fields, **changes})


def commit_of(step: int) -> Commit:
    """A commit without files."""
    return Commit(
        trial_id=TRIAL,
        attempt=ATTEMPT,
        step=step,
        time=0.0,
        digests=DIGESTS,
        world_size=1,
        wall_seconds=0.0,
        files={"state.pt": FileSeal(num_bytes=0, sha256_of_file="0")},
        segments=(),
    )


def write_commit(storage: Storage, step: int) -> Path:
    """Write a commit where it belongs."""
    path = attempt_path(TRIAL, ATTEMPT, checkpoint_name(step), "commit.json")
    storage.write(path, commit_of(step).sealed())
    return Path(storage.locate(path))


# --- sealed records -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [FAILURE, evaluation(3), result_of(), commit_of(2)], ids=lambda r: type(r).__name__)
def test_a_sealed_record_opens_as_it_was(record: Record) -> None:
    assert type(record).opened(record.sealed(), where="here") == record


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["loss", "läuft", "\u2028", ""]), FINITE, max_size=4),
    FINITE,
)
def test_any_scalars_survive_the_seal(scalars: dict[str, float], time: float) -> None:
    record = TrainRecord(step=1, time=time, scalars=scalars)
    assert TrainRecord.opened(record.sealed(), where="here") == record


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(data: st.DataObject) -> None:
    sealed = FAILURE.sealed()
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed = sealed[:place] + bytes([data.draw(st.integers(0, 255))]) + sealed[place + 1 :]
    try:
        assert Failure.opened(changed, where="here") == FAILURE  # white space, or the same byte again
    except DamagedRecord as error:
        assert str(error).startswith("here ")  # noqa: PT017  (either outcome is allowed)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(FAILURE.sealed()) - 2))
def test_a_cut_record_is_refused(length: int) -> None:
    with pytest.raises(DamagedRecord, match=r"^here is not a sealed record"):
        Failure.opened(FAILURE.sealed()[:length], where="here")


@pytest.mark.parametrize("field", json.loads(FAILURE.sealed()))
def test_every_field_is_under_the_seal(field: str) -> None:
    body = json.loads(FAILURE.sealed())
    body[field] = 8 if isinstance(body[field], int | float) else body[field] + "0"
    with pytest.raises(DamagedRecord, match="was changed after it was written"):
        Failure.opened(json.dumps(body).encode(), where="here")


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b'"text"', b"null", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_record_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(DamagedRecord, match=r"^result\.json is not a sealed record"):
        Result.opened(content, where="result.json")


def test_a_whole_record_of_another_kind_does_not_fit() -> None:
    with pytest.raises(DamagedRecord, match="does not fit its schema"):
        Result.opened(FAILURE.sealed(), where="here")


def test_finding_a_record_says_none_where_there_is_none(storage: Storage) -> None:
    assert Failure.find(storage, "nowhere/failure.json") is None
    storage.write("failure.json", FAILURE.sealed())
    assert Failure.find(storage, "failure.json") == FAILURE


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trial_id", ["", "..", ".", "a/b", "../a", "a\\b", "a b", "a.b", "/", "a\n"])
def test_a_trial_id_that_could_leave_its_folder_is_refused(trial_id: str) -> None:
    with pytest.raises(ValueError, match="is no trial id"):
        trial_path(trial_id, "result.json")


def test_an_attempt_that_could_leave_its_folder_is_refused_by_the_storage(storage: Storage) -> None:
    with pytest.raises(ValueError, match="is no path inside the storage"):
        storage.read(attempt_path(TRIAL, "..", "manifest.json"))


def test_names_sort_by_their_steps_and_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (checkpoint_name, segment_name):
        assert sorted(name(step) for step in (100, 9, 40_000)) == [name(9), name(100), name(40_000)]
    starts = iter(["20260101T000000", "20260101T000001"])
    monkeypatch.setattr(records.time, "strftime", lambda *_: next(starts))
    assert new_attempt_name() < new_attempt_name()


def test_attempts_that_start_together_have_names_of_their_own() -> None:
    assert len({new_attempt_name() for _ in range(100)}) == 100


# --- segments -----------------------------------------------------------------------------------------------------


def write_two_segments(storage: Storage) -> tuple[Segment, Segment]:
    """A history of three records in two files."""
    first = [TrainRecord(step=5, time=1.0, scalars={"loss": 0.1, "läuft\u2028": 2.0}), evaluation(5)]
    second = [TrainRecord(step=10, time=2.0, scalars={})]
    return (
        write_segment(storage, trial_id=TRIAL, attempt=ATTEMPT, step=5, records=first),
        write_segment(storage, trial_id=TRIAL, attempt=ATTEMPT, step=10, records=second),
    )


def test_segments_come_back_record_by_record(storage: Storage) -> None:
    found = list(read_segments(storage, TRIAL, write_two_segments(storage)))
    assert [record.kind for record in found] == ["train", "evaluation", "train"]
    assert [record.step for record in found] == [5, 5, 10]
    assert found[0] == TrainRecord(step=5, time=1.0, scalars={"loss": 0.1, "läuft\u2028": 2.0})
    assert found[1] == evaluation(5)


@pytest.mark.parametrize("damage", [lambda content: content + b"\n", lambda content: content[:-1], lambda _: b""])
def test_a_changed_segment_is_noticed(storage: Storage, damage: Callable[[bytes], bytes]) -> None:
    segments = write_two_segments(storage)
    path = Path(storage.locate(attempt_path(TRIAL, ATTEMPT, segments[0].file)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedRecord, match=f"{segments[0].file} was changed after it was written"):
        list(read_segments(storage, TRIAL, segments))


def test_a_missing_segment_is_noticed(storage: Storage) -> None:
    segments = write_two_segments(storage)
    storage.remove(attempt_path(TRIAL, ATTEMPT, segments[1].file))
    with pytest.raises(DamagedRecord, match=f"{segments[1].file} is gone, but a checkpoint or result counts on it"):
        list(read_segments(storage, TRIAL, segments))


# --- the state of a trial -----------------------------------------------------------------------------------------


def state_of(storage: Storage) -> tuple[str, int]:
    """Kind and step of the trial's state."""
    state = trial_state(storage, TRIAL)
    return state.kind, state.step


def test_a_trial_goes_from_missing_to_partial_to_done(storage: Storage) -> None:
    assert state_of(storage) == ("missing", 0)
    write_commit(storage, 10)
    write_commit(storage, 20)
    assert state_of(storage) == ("partial", 20)
    storage.write(trial_path(TRIAL, "result.json"), result_of().sealed())
    assert state_of(storage) == ("done", 40_000)


def test_a_failure_stands_above_checkpoints_and_below_a_result(storage: Storage) -> None:
    write_commit(storage, 5)
    storage.write(trial_path(TRIAL, "failure.json"), FAILURE.sealed())
    assert state_of(storage) == ("failed", 7)
    assert trial_state(storage, TRIAL).detail.startswith("non_finite_loss: loss is not finite")
    storage.write(trial_path(TRIAL, "result.json"), result_of().sealed())
    assert state_of(storage) == ("done", 40_000)


def test_a_damaged_failure_does_not_count(storage: Storage) -> None:
    storage.write(trial_path(TRIAL, "failure.json"), FAILURE.sealed()[:-30])
    assert read_failure(storage, TRIAL) is None
    assert state_of(storage) == ("missing", 0)


def test_a_damaged_result_is_not_done_and_says_why(storage: Storage) -> None:
    storage.write(trial_path(TRIAL, "result.json"), result_of().sealed()[:-30])
    state = trial_state(storage, TRIAL)
    assert state.kind == "partial"
    assert "result not accepted" in state.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trial_id": "another"}, "belongs to"),
        ({"spec": SPEC.model_copy(update={"seed": 4}).model_dump(mode="json")}, "belongs to supervised-"),
        ({"spec": {"sead": 1}}, "holds an invalid spec"),
    ],
)
def test_a_result_of_another_trial_is_refused(storage: Storage, changes: dict[str, Any], message: str) -> None:
    storage.write(trial_path(TRIAL, "result.json"), result_of(**changes).sealed())
    with pytest.raises(DamagedRecord, match=message):
        read_result(storage, TRIAL)


def test_a_stray_file_among_the_attempts_is_passed_over(storage: Storage) -> None:
    write_commit(storage, 10)
    storage.write(trial_path(TRIAL, "attempts", ".DS_Store"), b"")
    storage.write(attempt_path(TRIAL, ATTEMPT, "checkpoint-notes.txt"), b"")
    assert [commit.step for commit in find_commits(storage, TRIAL)] == [10]


def test_a_changed_commit_does_not_count(storage: Storage) -> None:
    write_commit(storage, 10)
    path = write_commit(storage, 20)
    path.write_bytes(path.read_bytes().replace(b'"step": 20', b'"step": 99'))
    assert state_of(storage) == ("partial", 10)


# --- pictures -----------------------------------------------------------------------------------------------------


def segment_of(attempt: str, step: int) -> Segment:
    return Segment(attempt=attempt, file=f"metrics-{step:08d}.jsonl", sha256_of_file="")


def test_pictures_count_with_the_records_of_their_steps(storage: Storage) -> None:
    for attempt, steps in {"a1": (5, 10, 12, 15, 20), "a2": (15, 20, 25), "a3": (15,)}.items():
        for step in steps:
            storage.write(attempt_path(TRIAL, attempt, f"preview-{step:08d}.png"), b"")
    storage.write(attempt_path(TRIAL, "a1", "preview-00000007.png.txt"), b"")
    # The first attempt is safe up to step 12; the second goes on from there, and its step 25 is not safe.
    history = [segment_of("a1", 6), segment_of("a1", 12), segment_of("a2", 18), segment_of("a2", 24)]
    found = {5: "a1", 10: "a1", 12: "a1", 15: "a2", 20: "a2"}
    expected = {step: attempt_path(TRIAL, attempt, f"preview-{step:08d}.png") for step, attempt in found.items()}
    assert find_previews(storage, TRIAL, history) == expected
    assert list(find_previews(storage, TRIAL, history, passed_over=1)) == [10, 12, 15, 20]
    assert find_previews(storage, TRIAL, history, passed_over=4) == {}
    assert find_previews(storage, TRIAL, ()) == {}


@pytest.mark.parametrize("name", ["preview-5.png", "preview-00000005.jpg", "metrics-00000005.jsonl", "x"])
def test_another_name_is_no_pictures(name: str) -> None:
    assert step_of_preview(name) is None
    assert step_of_preview("preview-00000005.png") == 5


# --- many trials --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_collecting", [True, False])
def test_each_trial_is_read_once_in_order_and_the_collector_is_left_as_it_was(
    storage: Storage, is_collecting: bool
) -> None:
    seen: list[str] = []
    (gc.enable if is_collecting else gc.disable)()
    try:
        found = read_each(storage, lambda trial_id: seen.append(trial_id) or trial_id.upper(), ["b", "a", "b"])  # type: ignore[func-returns-value]
        assert (list(found.items()), sorted(seen)) == ([("b", "B"), ("a", "A")], ["a", "b"])
        with pytest.raises(DamagedRecord):
            read_each(storage, lambda trial_id: Result.opened(b"", where=trial_id), ["a"])
        assert gc.isenabled() == is_collecting
    finally:
        gc.enable()


# --- what was accepted before -------------------------------------------------------------------------------------


def test_equal_bytes_are_made_something_of_once_and_others_each() -> None:
    made: list[str] = []
    memory: records.Remembered[str] = records.Remembered(most=2)

    def make(word: str) -> str:
        made.append(word)
        return word.upper()

    for word in ("a", "a", "b", "a", "c", "a"):  # with the third all is forgotten
        assert memory.recall(word.encode(), lambda word=word: make(word)) == word.upper()
    assert made == ["a", "b", "c", "a"]


@pytest.mark.parametrize("first", ["its own", "another"])
def test_a_result_is_accepted_in_its_own_folder_alone_whoever_asked_first(storage: Storage, first: str) -> None:
    other = TrialSpec(seed=9).trial_id
    content = result_of(finished=float(len(first))).sealed()  # bytes that nobody has seen before
    for trial_id in (TRIAL, other):
        storage.write(trial_path(trial_id, "result.json"), content)
    for trial_id in ([TRIAL, other] if first == "its own" else [other, TRIAL]) * 2:
        if trial_id == TRIAL:
            assert read_brief(storage, TRIAL) is not None
        else:
            with pytest.raises(DamagedRecord, match="belongs to"):
                read_brief(storage, other)


def test_a_missing_result_is_none_in_brief_too(storage: Storage) -> None:
    assert read_brief(storage, TRIAL) is None
