"""What goes and what must stay: nothing that a result names, nothing that a half-done trial goes on from."""

import shutil
from pathlib import Path

import pytest

from orchestrator.lease import Lease
from orchestrator.pruning import prune
from results.verify import verify
from tests.contracts import Killed, KilledAt, StopAt
from tests.orchestrator.conftest import small_table
from trainer.host import NoHost
from trainer.reading import (
    find_commits,
    find_previews,
    read_result,
    trial_state,
)
from trainer.records import (
    attempt_path,
    checkpoint_name,
    trial_path,
)
from trainer.run import run_trial
from trainer.spec import RunOptions
from trainer.storage import Storage

TABLE = small_table()
SPEC = TABLE.cells()[0].spec


@pytest.fixture
def storage(trained: str, tmp_path: Path) -> Storage:
    shutil.copytree(trained, tmp_path / "runs")
    return Storage(str(tmp_path / "runs"))


@pytest.fixture
def options(places: dict[str, str], tmp_path: Path) -> RunOptions:
    return RunOptions(storage=str(tmp_path / "half"), checkpoint_every=2, log_every=1, **places)


def pruned(storage: Storage, *, dry_run: bool = False) -> list[tuple[str, str]]:
    return [(waste.kind, waste.path) for waste in prune(storage, dry_run=dry_run)]


def test_a_finished_table_has_nothing_to_give_and_still_verifies(storage: Storage) -> None:
    assert pruned(storage) == []
    assert not verify(storage, TABLE).findings


def test_left_over_files_of_a_done_trial_go(storage: Storage) -> None:
    trial_id = SPEC.trial_id
    (attempt,) = storage.names(trial_path(trial_id, "attempts"))
    storage.write(attempt_path(trial_id, attempt, "checkpoint-00000003", "state.pt"), b"overtaken")
    storage.write(attempt_path(trial_id, attempt, "metrics-99999999.jsonl"), b"counted by nobody")
    Path(storage.locate(trial_path(trial_id, ".result.json.12345678.part"))).write_bytes(b"half")
    expected = [
        ("draft", trial_path(trial_id, ".result.json.12345678.part")),
        ("checkpoint", attempt_path(trial_id, attempt, "checkpoint-00000003")),
        ("metric records", attempt_path(trial_id, attempt, "metrics-99999999.jsonl")),
    ]
    assert pruned(storage, dry_run=True) == expected
    assert pruned(storage) == expected
    assert pruned(storage) == []
    assert not verify(storage, TABLE).findings


def test_a_half_done_trial_keeps_what_it_goes_on_from(options: RunOptions) -> None:
    storage = Storage(options.storage)
    run_trial(SPEC, options, StopAt(6))
    with pytest.raises(Killed):
        run_trial(SPEC, options, KilledAt(9))  # leaves records of step 8 behind a commit, and goes on to 9
    newest = find_commits(storage, SPEC.trial_id)[0]
    storage.write(attempt_path(SPEC.trial_id, newest.attempt, "metrics-00000009.jsonl"), b"not committed")
    storage.write(attempt_path(SPEC.trial_id, newest.attempt, "checkpoint-00000009", "state.pt"), b"not sealed")
    removed = {path.rpartition("/")[2] for _, path in pruned(storage)}
    assert {"metrics-00000009.jsonl", "checkpoint-00000009"} <= removed
    assert trial_state(storage, SPEC.trial_id).step == 8
    assert run_trial(SPEC, options, NoHost()).kind == "done"


def test_pictures_stay_with_the_records_of_their_steps(options: RunOptions) -> None:
    spec = SPEC.model_copy(update={"evaluation": SPEC.evaluation.model_copy(update={"every": 1})})
    storage = Storage(options.storage)
    with pytest.raises(Killed):
        run_trial(spec, options, KilledAt(8))  # the pictures of step 7 belong to no checkpoint
    (first,) = storage.names(trial_path(spec.trial_id, "attempts"))
    overtaken = ("picture", attempt_path(spec.trial_id, first, "preview-00000007.png"))
    assert pruned(storage, dry_run=True) == [overtaken]
    run_trial(spec, options, NoHost())
    assert pruned(storage) == [overtaken]
    result = read_result(storage, spec.trial_id)
    assert list(find_previews(storage, spec.trial_id, result.segments)) == list(range(1, 13))


def test_pictures_stay_where_nothing_else_is_kept(options: RunOptions) -> None:
    storage = Storage(options.storage)
    run_trial(SPEC, options.changed(keep="nothing"), NoHost())
    assert pruned(storage) == []
    assert len(find_previews(storage, SPEC.trial_id, read_result(storage, SPEC.trial_id).segments)) == 2


def test_damaged_checkpoints_do_not_push_out_the_one_to_fall_back_to(options: RunOptions) -> None:
    storage = Storage(options.storage)
    run_trial(SPEC, options, StopAt(6))
    commits = find_commits(storage, SPEC.trial_id)
    assert [commit.step for commit in commits] == [6, 4]
    state = attempt_path(SPEC.trial_id, commits[0].attempt, checkpoint_name(6), "state.pt")
    storage.write(state, b"rotten")
    assert ("checkpoint", state.rpartition("/")[0]) in pruned(storage)
    assert trial_state(storage, SPEC.trial_id).step == 4


def test_checkpoints_that_were_to_be_kept_stay(options: RunOptions) -> None:
    storage = Storage(options.storage)
    run_trial(SPEC, options.changed(keep="checkpoints"), NoHost())
    assert pruned(storage) == []
    assert find_commits(storage, SPEC.trial_id)


def test_trials_of_a_live_driver_are_not_touched(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    (attempt,) = storage.names(trial_path(SPEC.trial_id, "attempts"))
    storage.write(attempt_path(SPEC.trial_id, attempt, "checkpoint-00000003", "state.pt"), b"just being written")
    with Lease(storage, "small", [SPEC.trial_id]):
        assert pruned(storage) == []


def test_dead_drivers_and_their_scratch_go(storage: Storage) -> None:
    with Lease(storage, "small", [SPEC.trial_id]) as lease:
        pass
    storage.write(f"scratch/{lease.name}/anything", b"x")
    storage.write("drivers/long-gone.stop", b"stop\n")
    storage.write("clock/probe", b"")
    assert pruned(storage) == [
        ("driver", f"drivers/{lease.name}.json"),
        ("driver", "drivers/long-gone.stop"),
        ("scratch", f"scratch/{lease.name}"),
        ("scratch", "clock/probe"),
    ]
