"""Weights count only where they are what a record names; whatever else lies there is refused with a reason."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from tests.contracts import StopAt, same_tensors, small_options, small_spec
from tests.rooms import Room
from trainer.checkpoint import from_bytes, read_state, seal_of, to_bytes
from trainer.records import (
    DamagedRecord,
    Result,
    trial_path,
)
from trainer.storage import Storage
from trainer.trained import NothingTrained, load_finished, load_kept, load_newest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A trial with a teacher that is done, its checkpoints kept."""
    folder = tmp_path_factory.mktemp("finished")
    room = Room(small_spec("classmix"), small_options(small_data, folder, keep="checkpoints"))
    assert room.run().kind == "done"
    return room


@pytest.fixture
def folder(finished: Room, tmp_path: Path) -> Storage:
    """A copy of the trial's folder under another name, away from any storage."""
    shutil.copytree(Path(finished.options.storage) / "trials" / finished.spec.trial_id, tmp_path / "my model")
    return Storage(str(tmp_path / "my model"))


def test_a_finished_trial_gives_the_networks_it_kept(finished: Room) -> None:
    trained = load_kept(finished.storage, finished.spec.trial_id)
    kept = from_bytes(finished.storage.read(trial_path(finished.spec.trial_id, "weights.pt")))
    assert (trained.spec, trained.step) == (finished.spec, 6)
    assert trained.class_names == finished.spec.dataset.class_names
    for name in ("student", "teacher"):
        network = trained.network(name, CPU)
        assert same_tensors(network.state_dict(), kept[name])
        assert not network.training
        assert next(network.parameters()).dtype == torch.float64
    assert not same_tensors(kept["student"], kept["teacher"])


def test_a_copied_folder_is_enough(finished: Room, folder: Storage) -> None:
    mine, theirs = load_finished(folder), load_kept(finished.storage, finished.spec.trial_id)
    assert same_tensors(mine.weights["student"], theirs.weights["student"])


def test_a_network_of_another_precision_computes_as_it_was_judged(finished: Room) -> None:
    trained = load_kept(finished.storage, finished.spec.trial_id)
    for precision, autocast in (("bf16", torch.bfloat16), ("float32", None)):
        object.__setattr__(trained, "spec", trained.spec.model_copy(update={"precision": precision}))
        network = trained.network("student", CPU)
        assert network.autocast_dtype == autocast
        assert next(network.parameters()).dtype == torch.float32


def test_a_trial_without_a_teacher_says_so(small_data: Path, tmp_path: Path) -> None:
    room = Room(small_spec("supervised"), small_options(small_data, tmp_path))
    room.run()
    with pytest.raises(NothingTrained, match=r"supervised-.* has no teacher: choose --network student"):
        load_kept(room.storage, room.spec.trial_id).network("teacher", CPU)


def test_a_trial_that_is_not_done_offers_its_newest_checkpoint(small_data: Path, tmp_path: Path) -> None:
    room = Room(small_spec("classmix"), small_options(small_data, tmp_path))
    room.run(StopAt(4))
    with pytest.raises(NothingTrained, match=r"holds no result.json: .* --checkpoint"):
        load_kept(room.storage, room.spec.trial_id)
    trained = load_newest(room.storage, room.spec.trial_id)
    state = read_state(room.storage, room.newest())["trial"]
    assert trained.step == 4
    assert same_tensors(trained.weights["student"], state["networks"]["student"])
    assert same_tensors(trained.weights["teacher"], state["teacher"]["network"])


def test_a_trial_without_a_checkpoint_says_so(small_data: Path, tmp_path: Path) -> None:
    room = Room(small_spec("supervised"), small_options(small_data, tmp_path))
    room.run()
    with pytest.raises(NothingTrained, match="has no checkpoint in"):
        load_newest(room.storage, room.spec.trial_id)


def test_a_trial_that_kept_nothing_says_so(small_data: Path, tmp_path: Path) -> None:
    room = Room(small_spec("supervised"), small_options(small_data, tmp_path, keep="nothing"))
    room.run()
    with pytest.raises(NothingTrained, match="kept no weights .*--keep nothing"):
        load_kept(room.storage, room.spec.trial_id)


def test_weights_that_are_gone_or_changed_are_refused(folder: Storage) -> None:
    content = folder.read("weights.pt")
    other = from_bytes(content)
    next(iter(other["student"].values())).add_(1)
    folder.write("weights.pt", to_bytes(other))
    with pytest.raises(DamagedRecord, match=r"weights.pt is not what the result names: its digest differs"):
        load_finished(folder)
    folder.remove("weights.pt")
    with pytest.raises(NothingTrained, match=r"weights.pt is gone"):
        load_finished(folder)


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self._folder,)


@pytest.mark.parametrize("name", ["code", "list", "nothing", "no tensor"])
def test_a_file_that_a_forged_result_names_is_not_run_and_not_taken_for_weights(
    name: str, folder: Storage, tmp_path: Path
) -> None:
    content = {
        "code": pickle.dumps(Code(tmp_path / "ran")),
        "list": to_bytes([1, 2]),
        "nothing": b"",
        "no tensor": to_bytes({"student": {"a": 1}}),
    }[name]
    result = Result.find(folder, "result.json")
    forged = result.model_copy(update={"weights_sha256": seal_of(content).sha256_of_file})
    folder.write("weights.pt", content)
    folder.write("result.json", forged.sealed())
    with pytest.raises((DamagedRecord, NothingTrained)):
        load_finished(folder).network("student", CPU)
    assert not (tmp_path / "ran").exists()


def test_the_result_of_another_trial_is_refused(folder: Storage) -> None:
    result = Result.find(folder, "result.json")
    folder.write("result.json", result.model_copy(update={"trial_id": "classmix-0123456789ab"}).sealed())
    with pytest.raises(DamagedRecord, match="is that of classmix-0123456789ab, its spec that of"):
        load_finished(folder)


def test_weights_of_another_network_are_refused(folder: Storage) -> None:
    trained = load_finished(folder)
    object.__setattr__(trained, "class_names", ("only", "two"))
    with pytest.raises(NothingTrained, match="are not those of its network"):
        trained.network("student", CPU)
