"""Every way in which a finished table can drift from its records is named."""

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.stale_results import accept
from results.verify import Verification, verify
from tests.orchestrator.conftest import small_table
from tests.results.test_staleness import HereStub
from trainer.reading import read_result
from trainer.records import (
    Digests,
    Manifest,
    Result,
    attempt_path,
    superseded_path,
    trial_path,
)
from trainer.storage import Storage

TABLE = small_table()
TRIAL = TABLE.cells()[1].trial_id


@pytest.fixture
def storage(trained: str, tmp_path: Path) -> Storage:
    """A copy of the trained storage, to spoil."""
    shutil.copytree(trained, tmp_path / "runs")
    return Storage(str(tmp_path / "runs"))


def drifts(storage: Storage) -> list[str]:
    return [finding.message for finding in verify(storage, TABLE).findings if finding.kind == "drift"]


def change_result(storage: Storage, **fields: object) -> None:
    result = read_result(storage, TRIAL)
    assert result is not None
    storage.write(trial_path(TRIAL, "result.json"), result.model_copy(update=fields).sealed())


def test_what_training_left_holds(storage: Storage) -> None:
    assert verify(storage, TABLE) == Verification(2, 0, 6, ())


def test_an_empty_storage_has_nothing_done_and_no_drift(tmp_path: Path) -> None:
    assert verify(Storage(str(tmp_path)), TABLE) == Verification(0, 2, 0, ())


def test_a_result_that_was_edited_is_named(storage: Storage) -> None:
    body = json.loads(storage.read(trial_path(TRIAL, "result.json")))
    body["evaluations"][-1]["mean_iou"] = 0.99
    storage.write(trial_path(TRIAL, "result.json"), json.dumps(body).encode())
    (message,) = drifts(storage)
    assert "was changed after it was written" in message


def test_a_result_that_tells_another_story_than_its_history_is_named(storage: Storage) -> None:
    result = read_result(storage, TRIAL)
    assert result is not None
    first = result.evaluations[0]
    turned = first.model_copy(update={"time": first.time + 1})
    change_result(storage, evaluations=(turned, *result.evaluations[1:]))
    assert any("metric records hold 4 evaluations" in message for message in drifts(storage))


def test_a_segment_that_was_cut_is_named(storage: Storage) -> None:
    result = read_result(storage, TRIAL)
    assert result is not None
    path = attempt_path(TRIAL, result.segments[0].attempt, result.segments[0].file)
    storage.write(path, storage.read(path)[:-20])
    assert any(result.segments[0].file in message for message in drifts(storage))


def test_a_missing_stretch_of_training_is_named(storage: Storage) -> None:
    change_result(storage, segments=())
    assert any("its metric records hold 0 evaluations" in message for message in drifts(storage))


@pytest.mark.parametrize(("content", "word"), [(b"other", "is not what the trial ended with"), (None, "is gone")])
def test_other_weights_are_named(content: bytes | None, word: str, storage: Storage) -> None:
    path = trial_path(TRIAL, "weights.pt")
    if content is None:
        storage.remove(path)
    else:
        storage.write(path, content)
    (message,) = drifts(storage)
    assert word in message


def notes(storage: Storage) -> list[str]:
    found = verify(storage, TABLE)
    assert not found.has_drift
    return [finding.message for finding in found.findings]


def test_an_attempt_on_other_data_is_noted(storage: Storage) -> None:
    result = read_result(storage, TRIAL)
    assert result is not None
    path = attempt_path(TRIAL, result.attempt, "manifest.json")
    manifest = Manifest.find(storage, path)
    assert manifest is not None
    other = Digests(**{**manifest.digests.model_dump(), "data": "0" * 64})
    storage.write(path, manifest.model_copy(update={"digests": other}).sealed())
    (note,) = notes(storage)
    assert "ran on another data than the last one" in note


def test_what_is_stale_here_and_what_was_accepted_of_it_is_noted(storage: Storage) -> None:
    machine = HereStub({"code": "f" * 64, "torch": "1.0"})
    first = [f.message for f in verify(storage, TABLE, here=machine).findings if f.trial_id == TRIAL]
    assert len(first) == 1
    assert first[0].startswith("stale: code ")
    result = read_result(storage, TRIAL)
    assert result is not None
    accept(storage, TRIAL, attempt=result.attempt, facts={"code": "f" * 64}, why="seen")
    found = [f for f in verify(storage, TABLE, here=machine).findings if f.trial_id == TRIAL]
    assert [f.kind for f in found] == ["note", "note"]
    assert found[0].message.startswith("stale: torch ")
    assert found[1].message.startswith("accepted: code ")


def test_a_result_that_was_set_aside_is_noted_and_read(storage: Storage) -> None:
    result = read_result(storage, TRIAL)
    assert result is not None
    old = result.model_copy(update={"attempt": "a", "segments": ()})
    storage.write(superseded_path(TRIAL, "a"), old.sealed())
    storage.write(superseded_path(TRIAL, "b"), b"{}")
    damage, aside = notes(storage)
    assert "superseded result not accepted" in damage
    assert aside.startswith(
        "a result of attempt a was set aside, and is in doubt: its metric records hold 0 evaluations"
    )


def test_numbers_that_do_not_follow_from_counts_are_named(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    result = read_result(storage, TRIAL)
    assert result is not None
    last = result.evaluations[-1].model_copy(update={"mean_iou": 0.99})  # what no record can be read with
    wrong = result.model_copy(update={"evaluations": (*result.evaluations[:-1], last)})
    monkeypatch.setattr("results.verify.read_result", lambda _storage, trial_id: wrong if trial_id == TRIAL else None)
    assert any("is 0.99, its confusion matrix gives" in message for message in drifts(storage))
    assert isinstance(wrong, Result)
