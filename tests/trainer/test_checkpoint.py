"""Checkpoints: what counts, what falls back, what is pruned and what is refused."""

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoint import (
    from_bytes,
    newest_checkpoint,
    prune,
    read_state,
    seal_checkpoint,
    to_bytes,
    write_state,
)
from trainer.reading import find_commits
from trainer.records import (
    Commit,
    DamagedRecord,
    Digests,
    attempt_path,
    checkpoint_name,
)
from trainer.storage import Storage

TRIAL = "supervised-0123456789ab"
FIRST, SECOND = "20260101T000000-aaaaaaaa", "20260102T000000-bbbbbbbb"
DIGESTS = Digests(code="c", data="d", split="s", weights="w", precision="float32")


class Runs:
    """What a test reads when it is unpickled: nothing, unless code in files is run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code from a checkpoint was run",))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return Storage(str(tmp_path / "runs"))


def write(storage: Storage, step: int, attempt: str = FIRST, state: Any = None) -> Commit:
    """Write and seal a checkpoint whose state names its step."""
    files = write_state(storage, TRIAL, attempt, step, {"step": step} if state is None else state)
    commit = Commit(
        trial_id=TRIAL,
        attempt=attempt,
        step=step,
        time=float(step),
        digests=DIGESTS,
        world_size=1,
        wall_seconds=1.5,
        files=files,
        segments=(),
    )
    seal_checkpoint(storage, commit)
    return commit


def state_file(storage: Storage, commit: Commit) -> Path:
    """Where the state of a checkpoint lies."""
    return Path(storage.locate(attempt_path(TRIAL, commit.attempt, checkpoint_name(commit.step), "state.pt")))


def steps_left(storage: Storage, attempt: str = FIRST) -> list[int]:
    """The steps of an attempt whose folders are still there."""
    return [int(name.removeprefix("checkpoint-")) for name in storage.names(attempt_path(TRIAL, attempt))]


def newest_step(storage: Storage) -> int:
    """The step of the checkpoint that a resume takes, checked against its state."""
    found = newest_checkpoint(storage, TRIAL)
    assert found is not None
    commit, state = found
    assert state == {"step": commit.step}
    return commit.step


def test_a_state_comes_back_bit_for_bit() -> None:
    state = {
        "weight": torch.linspace(0, 1, 12).view(3, 4),
        "count": 5,
        "names": ["a"],
        "nested": {"empty": None, "mean": 0.1},
    }
    back = from_bytes(to_bytes(state))
    assert torch.equal(back.pop("weight"), state.pop("weight"))
    assert back == state


def test_an_optimizer_state_comes_back() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.sum().backward()
    optimizer.step()
    back = from_bytes(to_bytes(optimizer.state_dict()))
    assert back["state"][0]["momentum_buffer"].tolist() == [1.0, 1.0]
    assert back["param_groups"] == optimizer.state_dict()["param_groups"]


def test_a_file_with_code_in_it_is_refused_and_not_run(storage: Storage) -> None:
    content = to_bytes({"weight": Runs()})
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        from_bytes(content)
    with pytest.raises(DamagedRecord, match="not loaded"):
        read_state(storage, write(storage, 1, state={"weight": Runs()}))


def test_without_a_checkpoint_there_is_nothing_to_resume(storage: Storage) -> None:
    assert newest_checkpoint(storage, TRIAL) is None


def test_the_newest_checkpoint_over_all_attempts_is_taken(storage: Storage) -> None:
    for step, attempt in ((10, FIRST), (30, FIRST), (20, SECOND)):
        write(storage, step, attempt)
    assert newest_step(storage) == 30


def test_a_state_without_its_seal_does_not_count(storage: Storage) -> None:
    write(storage, 10)
    write_state(storage, TRIAL, FIRST, 20, {"step": 20})
    assert newest_step(storage) == 10


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "gone"])
def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(
    storage: Storage, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(storage, 10)
    path = state_file(storage, write(storage, 20))
    content = path.read_bytes()
    middle = len(content) // 2
    match damage:
        case "cut":
            path.write_bytes(content[:-1])
        case "emptied":
            path.write_bytes(b"")
        case "flipped":
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "gone":
            path.unlink()
    with caplog.at_level(logging.WARNING, "mixgrid.checkpoint"):
        assert newest_step(storage) == 10
    assert f"checkpoint after step 20 is not used: {path}" in caplog.text


def test_a_damaged_seal_falls_back_to_the_one_before(storage: Storage) -> None:
    write(storage, 10)
    seal = state_file(storage, write(storage, 20)).with_name("commit.json")
    seal.write_bytes(seal.read_bytes()[:-40])
    assert newest_step(storage) == 10


def test_when_all_are_damaged_nothing_is_resumed(storage: Storage) -> None:
    for step in (10, 20):
        state_file(storage, write(storage, step)).write_bytes(b"")
    assert newest_checkpoint(storage, TRIAL) is None


def test_a_state_that_its_seal_does_not_name_is_refused(storage: Storage) -> None:
    commit = write(storage, 10).model_copy(update={"files": {}})
    with pytest.raises(DamagedRecord, match="was changed after it was written"):
        read_state(storage, commit)


def run_and_prune(storage: Storage, attempt: str, steps: Sequence[int]) -> None:
    """Write checkpoints as training does: prune after each."""
    for count, step in enumerate(steps, start=1):
        write(storage, step, attempt)
        prune(storage, TRIAL, attempt, steps[:count])


def test_two_checkpoints_are_kept_while_running(storage: Storage) -> None:
    run_and_prune(storage, FIRST, (10, 20, 30, 40))
    assert steps_left(storage) == [30, 40]


def test_an_earlier_attempts_checkpoints_stay_until_they_are_useless(storage: Storage) -> None:
    run_and_prune(storage, FIRST, (10, 20))
    run_and_prune(storage, SECOND, (30,))
    assert steps_left(storage, FIRST) == [10, 20]
    prune(storage, TRIAL, SECOND, [30, write(storage, 40, SECOND).step])
    assert steps_left(storage, FIRST) == []
    assert steps_left(storage, SECOND) == [30, 40]


def test_of_an_earlier_attempt_the_newest_checkpoint_goes_last(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_prune(storage, FIRST, (10, 20))
    run_and_prune(storage, SECOND, (30,))
    write(storage, 40, SECOND)
    newest: list[int] = []
    remove = Storage.remove

    def look_and_remove(self: Storage, path: str) -> None:
        remove(self, path)
        newest.extend(steps_left(storage, FIRST)[-1:])

    monkeypatch.setattr(Storage, "remove", look_and_remove)
    prune(storage, TRIAL, SECOND, [30, 40])
    assert set(newest) == {20}


def test_pruning_leaves_a_later_attempt_and_steps_ahead_alone(storage: Storage) -> None:
    write(storage, 5, SECOND)
    write(storage, 50, FIRST)
    run_and_prune(storage, "20260101T120000-cccccccc", (10, 20))
    assert steps_left(storage, SECOND) == [5]
    assert steps_left(storage, FIRST) == [50]


def test_pruning_takes_the_seal_before_the_state(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(Storage, "remove", lambda _self, path: removed.append(path))
    prune(storage, TRIAL, FIRST, [10, 20, 30])
    folder = attempt_path(TRIAL, FIRST, checkpoint_name(10))
    assert removed == [f"{folder}/commit.json", folder]


def test_a_seal_for_another_trial_or_attempt_is_left_out(storage: Storage) -> None:
    commit = write(storage, 10)
    for attempt, other in ((SECOND, commit), (FIRST, commit.model_copy(update={"trial_id": "another"}))):
        storage.write(attempt_path(TRIAL, attempt, checkpoint_name(20), "commit.json"), other.sealed())
    assert [(c.attempt, c.step) for c in find_commits(storage, TRIAL)] == [(FIRST, 10)]
