"""A stale result that is set aside or accepted: whoever dies at any moment loses nothing."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.lease import Lease
from orchestrator.plan import survey, to_run
from orchestrator.pruning import forget, prune
from orchestrator.stale_results import accept, supersede
from results.frame import read_frames
from results.verify import verify
from tests.chaos.faults import DEATHS, Died, Fault, FaultKind, FaultyStorage, hooked_sync, scratch
from tests.contracts import StopAt
from tests.orchestrator.conftest import small_table
from tests.results.builders import ATTEMPT, EIGHTH, put_partial, put_score, spec_of
from trainer.checkpoint import newest_checkpoint
from trainer.host import NoHost
from trainer.reading import (
    read_accepted,
    read_result,
    read_superseded,
    trial_state,
)
from trainer.records import (
    Result,
    attempt_path,
    superseded_path,
    trial_path,
)
from trainer.run import run_trial
from trainer.spec import RunOptions
from trainer.storage import Storage

TABLE = small_table()
CELL = TABLE.cells()[0]
TRIAL = CELL.trial_id
STUB = spec_of("Supervised", EIGHTH, 0).trial_id


@pytest.fixture
def storage(trained: str, tmp_path: Path) -> Storage:
    """A copy of the trained storage."""
    shutil.copytree(trained, tmp_path / "runs")
    return Storage(str(tmp_path / "runs"))


def result_of(storage: Storage, trial_id: str = TRIAL) -> Result:
    result = read_result(storage, trial_id)
    assert result is not None
    return result


def set_aside(storage: Storage, trial_id: str = TRIAL) -> Result:
    """Set a trial's result aside and give it back."""
    result = result_of(storage, trial_id)
    assert supersede(storage, "small", {trial_id: result.attempt}) == [trial_id]
    return result


def test_a_result_that_was_set_aside_is_kept_byte_for_byte_and_trained_again(storage: Storage) -> None:
    content = storage.read(trial_path(TRIAL, "result.json"))
    old = set_aside(storage)
    assert storage.read(superseded_path(TRIAL, old.attempt)) == content
    assert read_superseded(storage, TRIAL) == ([old], [])
    state = trial_state(storage, TRIAL)
    assert (state.kind, state.detail) == (
        "missing", f"its result of attempt {old.attempt} was set aside, to be trained again",
    )  # fmt: skip
    assert to_run(survey(TABLE, storage), retry_failed=False) == [CELL]
    assert storage.names("drivers") == []


def test_a_newer_result_is_not_set_aside(storage: Storage) -> None:
    assert supersede(storage, "small", {TRIAL: "20250101T000000-00000009"}) == []
    assert supersede(storage, "small", {}) == []
    assert trial_state(storage, TRIAL).kind == "done"


def test_a_trial_that_a_live_driver_holds_is_left_alone(storage: Storage) -> None:
    with Lease(storage, "small", [TRIAL]):
        assert supersede(storage, "small", {TRIAL: result_of(storage).attempt}) == []
    assert trial_state(storage, TRIAL).kind == "done"


def test_checkpoints_of_the_old_training_are_not_resumed(places: dict[str, str], tmp_path: Path) -> None:
    options = RunOptions(storage=str(tmp_path), keep="checkpoints", checkpoint_every=4, log_every=2, **places)
    storage = Storage(options.storage)
    assert run_trial(CELL.spec, options, NoHost()).kind == "done"
    assert newest_checkpoint(storage, TRIAL) is not None
    old = set_aside(storage)
    assert newest_checkpoint(storage, TRIAL) is None
    assert run_trial(CELL.spec, options, NoHost()).kind == "done"
    new = result_of(storage)
    assert new.attempt != old.attempt
    assert {segment.attempt for segment in new.segments} == {new.attempt}
    assert new.weights_sha256 == old.weights_sha256  # nothing had changed, and all of it was trained


def test_the_records_of_what_was_set_aside_survive_pruning_restarting_and_verify(
    storage: Storage, places: dict[str, str]
) -> None:
    old = set_aside(storage)
    options = RunOptions(storage=storage.url, checkpoint_every=4, log_every=2, **places)
    assert run_trial(CELL.spec, options, StopAt(6)).kind == "stopped"
    assert [waste for waste in prune(storage, dry_run=False) if old.attempt in waste.path] == []
    forget(storage, TRIAL)
    assert trial_state(storage, TRIAL).kind == "missing"
    assert storage.names(trial_path(TRIAL, "attempts")) == [old.attempt]
    assert run_trial(CELL.spec, options, NoHost()).kind == "done"
    found = verify(storage, TABLE)
    assert [finding.message for finding in found.findings] == [f"a result of attempt {old.attempt} was set aside"]
    attempts = read_frames(storage, TABLE).attempts
    assert attempts[attempts["trial_id"] == TRIAL]["in_result"].tolist() == [False, True]


def test_forgetting_a_trial_without_old_results_leaves_nothing(tmp_path: Path) -> None:
    storage, spec = Storage(str(tmp_path)), spec_of("Supervised")
    put_partial(storage, spec)
    forget(storage, spec.trial_id)
    assert not storage.exists(trial_path(spec.trial_id))


def test_forgetting_removes_what_would_be_resumed_and_keeps_what_is_damaged(tmp_path: Path) -> None:
    storage, spec = Storage(str(tmp_path)), spec_of("Supervised")
    put_partial(storage, spec)
    storage.write(superseded_path(spec.trial_id, "a"), b"{}")
    forget(storage, spec.trial_id)
    assert newest_checkpoint(storage, spec.trial_id) is None
    assert storage.exists(attempt_path(spec.trial_id, ATTEMPT, "manifest.json"))


def test_weights_that_the_new_result_does_not_name_are_waste(storage: Storage, places: dict[str, str]) -> None:
    set_aside(storage)
    options = RunOptions(storage=storage.url, keep="nothing", **places)
    assert run_trial(CELL.spec, options, NoHost()).kind == "done"
    assert ("weights", trial_path(TRIAL, "weights.pt")) in [(w.kind, w.path) for w in prune(storage, dry_run=True)]


# --- deaths -------------------------------------------------------------------------------------------------------


@pytest.fixture
def _synced() -> Iterator[None]:
    with hooked_sync():
        yield


def put_stub(storage: Storage) -> bytes:
    """A done trial with checkpoints and the labels of a round; returns its result's bytes."""
    put_partial(storage, spec_of("Supervised", EIGHTH, 0))
    put_score(storage, "Supervised", EIGHTH, 0, 0.5)
    storage.write(trial_path(STUB, "labels", "00000005-abc.arrow"), b"labels")
    return storage.read(trial_path(STUB, "result.json"))


def num_operations(*, is_local: bool) -> int:
    """What setting aside asks of storage when nothing comes in between."""
    with scratch(is_local=is_local) as url:
        put_stub(FaultyStorage(url))
        storage = FaultyStorage(url)
        supersede(storage, "stub", {STUB: ATTEMPT})
        return len(storage.asked)


@pytest.mark.usefixtures("_synced")
@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("kind", [*DEATHS, "away", "unsure"])
def test_a_death_at_any_operation_loses_no_result(kind: FaultKind, is_local: bool) -> None:
    for at in range(num_operations(is_local=is_local)):
        with scratch(is_local=is_local) as url:
            content = put_stub(FaultyStorage(url))
            with suppress(Died, OSError):
                supersede(FaultyStorage(url, Fault(at, kind)), "stub", {STUB: ATTEMPT})
            storage = FaultyStorage(url)
            check_nothing_is_lost(storage, content)
            storage.remove("drivers")  # what the dead process held, which is our own here, is held no more
            supersede(storage, "stub", {STUB: ATTEMPT})  # whoever comes next brings it to its end
            assert storage.read(superseded_path(STUB, ATTEMPT)) == content
            assert trial_state(storage, STUB).kind == "missing"


def check_nothing_is_lost(storage: Storage, content: bytes) -> None:
    """The result is where it was, or set aside; and only where it is set aside will the trial be trained again."""
    if trial_state(storage, STUB).kind == "done":
        assert storage.read(trial_path(STUB, "result.json")) == content
        return
    assert storage.read(superseded_path(STUB, ATTEMPT)) == content
    assert trial_state(storage, STUB).kind == "missing"  # "partial" would go on from an old checkpoint
    assert storage.names(trial_path(STUB, "labels")) == []


# --- accepting ----------------------------------------------------------------------------------------------------


def test_what_is_accepted_is_noted_with_person_reason_and_what_was_accepted_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    accept(storage, STUB, attempt=ATTEMPT, facts={"code": "f" * 64}, why="only words")
    accept(storage, STUB, attempt=ATTEMPT, facts={"torch": "2.12.0"}, why="measured")
    first, second = read_accepted(storage, STUB)
    assert (first.by, first.why, first.facts) == ("ada", "only words", {"code": "f" * 64})
    assert (second.why, second.facts, second.attempt) == ("measured", {"torch": "2.12.0"}, ATTEMPT)
    assert second.accepted >= first.accepted > 1.7e9


def test_a_person_without_a_name_can_accept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.setattr("getpass.getuser", nobody)
    storage = Storage(str(tmp_path))
    accept(storage, STUB, attempt=ATTEMPT, facts={"code": "f" * 64}, why="seen")
    assert read_accepted(storage, STUB)[0].by == "unknown"
