"""Published caches: each machine copies them once, whole and as published, or not at all."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.contracts import SMALL, small_spec
from tests.object_store import ObjectStore
from trainer import storage
from trainer.data.cache import CachedSplit
from trainer.data.folders import DataError
from trainer.data.opening import find_copies, open_splits, open_wanted, wanted_splits
from trainer.data.published import UnfitCopy, Wanted, find_copy, is_published, open_copy, publish, read_entry
from trainer.errors import SetupError
from trainer.spec import Evaluation
from trainer.storage import Storage

TRAIN = Wanted(SMALL, "train")
SPEC = small_spec("supervised", evaluation=Evaluation(protocol="full_whole"))


@pytest.fixture(params=["a shared folder", "S3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that holds what was published."""
    if request.param == "a shared folder":
        return str(tmp_path / "shared")
    store = request.getfixturevalue("object_store")
    return store.url(f"{request.getfixturevalue('bucket')}/data")


@pytest.fixture
def built(small_data: Path) -> CachedSplit:
    return open_wanted(TRAIN, small_data / "data", small_data / "cache")


@pytest.fixture
def on_s3(object_store: ObjectStore, bucket: str, built: CachedSplit) -> str:
    """A place on S3 with the training split published."""
    url = object_store.url(f"{bucket}/data")
    publish(built, TRAIN, Storage(url))
    object_store.seen()
    return url


def reads_of_caches(store: ObjectStore) -> int:
    return sum(request.startswith("GET") and ".arrow" in request for request in store.seen())


def arrow_of(place: str) -> str:
    return f"published/{read_entry(Storage(place), TRAIN).file}"


def test_a_machine_without_images_gets_the_pixels_that_were_published(
    place: str, small_data: Path, tmp_path: Path
) -> None:
    built = open_splits(SPEC, small_data / "data", small_data / "cache")
    for cached, wanted in zip(built, wanted_splits(SPEC), strict=True):
        publish(cached, wanted, Storage(place))
    assert is_published(place)
    assert find_copies(SPEC, place, tmp_path / "node") is None
    copies = open_splits(SPEC, place, tmp_path / "node")
    for cached, copy in zip(built, copies, strict=True):
        assert copy.path.parent == tmp_path / "node"
        assert (copy.digest, copy.names, copy.class_names) == (cached.digest, cached.names, cached.class_names)
        np.testing.assert_array_equal(copy.images(range(len(copy))), cached.images(range(len(cached))))
        np.testing.assert_array_equal(copy.labels(range(len(copy))), cached.labels(range(len(cached))))
    found = find_copies(SPEC, place, tmp_path / "node")
    assert found is not None
    assert [split.path for split in found] == [split.path for split in copies]


def test_a_machine_copies_once_whatever_its_trials(object_store: ObjectStore, on_s3: str, tmp_path: Path) -> None:
    first = open_copy(TRAIN, on_s3, tmp_path)
    assert reads_of_caches(object_store) == 1
    assert open_copy(TRAIN, on_s3, tmp_path).path == first.path
    assert reads_of_caches(object_store) == 0


def test_publishing_twice_is_once(place: str, built: CachedSplit) -> None:
    path, is_new = publish(built, TRAIN, Storage(place))
    assert is_new
    assert path.startswith(Storage(place).name)
    assert publish(built, TRAIN, Storage(place)) == (path, False)


def test_a_published_file_that_was_spoilt_is_put_right_by_publishing_again(
    place: str, built: CachedSplit, tmp_path: Path
) -> None:
    publish(built, TRAIN, Storage(place))
    Storage(place).write(arrow_of(place), b"cut")
    assert publish(built, TRAIN, Storage(place))[1]
    assert open_copy(TRAIN, place, tmp_path / "node").digest == built.digest


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("spoil", [flipped, lambda content: content[:-1], lambda content: content + b"x"])
def test_another_file_than_was_published_is_refused_and_leaves_nothing(
    spoil: Callable[[bytes], bytes], place: str, built: CachedSplit, tmp_path: Path
) -> None:
    publish(built, TRAIN, Storage(place))
    path = arrow_of(place)
    Storage(place).write(path, spoil(Storage(place).read(path)))
    with pytest.raises(UnfitCopy) as caught:
        open_copy(TRAIN, place, tmp_path / "node")
    for word in (Storage(place).locate(path), "is not what was published", "SHA-256", "mixgrid data publish"):
        assert word in str(caught.value)
    assert [file.suffix for file in (tmp_path / "node").iterdir()] == [".lock"]
    assert find_copy(TRAIN, place, tmp_path / "node") is None
    assert issubclass(UnfitCopy, SetupError), "no trial's fault: nothing is recorded, the next run tries again"


def test_a_file_that_is_gone_and_a_damaged_entry_say_what_to_do(place: str, built: CachedSplit, tmp_path: Path) -> None:
    publish(built, TRAIN, Storage(place))
    Storage(place).remove(arrow_of(place))
    with pytest.raises(UnfitCopy, match="mixgrid data publish"):
        open_copy(TRAIN, place, tmp_path / "node")
    Storage(place).write(TRAIN.entry, Storage(place).read(TRAIN.entry).replace(b'"num_bytes": ', b'"num_bytes": 1'))
    with pytest.raises(UnfitCopy, match="mixgrid data publish"):
        open_copy(TRAIN, place, tmp_path / "node")


def test_what_was_not_published_is_said_with_the_command_that_does_it(place: str, tmp_path: Path) -> None:
    other = Wanted(SMALL.model_copy(update={"height": 16}), "train")
    Storage(place).write("published/other", b"")
    with pytest.raises(DataError, match=r"small-train-16x64 was not published in .*mixgrid data publish TABLE"):
        open_copy(other, place, tmp_path)


def test_every_choice_of_pixels_has_an_entry_of_its_own() -> None:
    changes = ({}, {"height": 16}, {"image_filter": "box"}, {"train_split": "val"})
    wanted = [Wanted(SMALL.model_copy(update=change), "train") for change in changes]
    assert len({each.entry for each in [*wanted, Wanted(SMALL, "val"), Wanted(SMALL, "train", is_full=True)]}) == 6


def test_a_store_that_does_not_answer_is_an_error_that_another_try_may_mend(
    object_store: ObjectStore, on_s3: str, tmp_path: Path
) -> None:
    with (
        object_store.failing("denied", matching=r"GET .*\.arrow"),
        pytest.raises(OSError, match="^cannot read s3://") as caught,
    ):
        open_copy(TRAIN, on_s3, tmp_path)
    assert not isinstance(caught.value, FileNotFoundError)
    assert [file.suffix for file in tmp_path.iterdir()] == [".lock"]
    with object_store.failing("cut", matching=r"GET .*\.arrow", lasts=1):
        open_copy(TRAIN, on_s3, tmp_path)


def test_a_cache_whose_pixels_rotted_is_not_published(small_data: Path, place: str, tmp_path: Path) -> None:
    cached = open_wanted(TRAIN, small_data / "data", tmp_path / "cache")
    content = cached.path.read_bytes()
    at = content.index(cached.image(3).tobytes())
    cached.path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    again = open_wanted(TRAIN, small_data / "data", tmp_path / "cache")
    with pytest.raises(UnfitCopy, match="has changed since it was built: remove it"):
        publish(again, TRAIN, Storage(place))


# --- several processes --------------------------------------------------------------------------------------------

COPY = """
import os, signal, sys, time
from pathlib import Path
from trainer import storage
from trainer.data.published import Wanted, open_copy
from trainer.spec import Folders
storage._CHUNK_BYTES = 2**14
whole = storage.Storage.chunks
def slowly(self, path):
    for count, chunk in enumerate(whole(self, path)):
        if count == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        yield chunk
storage.Storage.chunks = slowly
wanted = Wanted(Folders.model_validate_json(sys.argv[4]), "train")
print(open_copy(wanted, sys.argv[1], Path(sys.argv[2])).digest)
"""


def copying(place: str, folder: Path, *, dies_at: int = -1) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", COPY, place, str(folder), str(dies_at), SMALL.model_dump_json()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def test_two_processes_of_a_machine_copy_once(
    object_store: ObjectStore, on_s3: str, built: CachedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_CHUNK_BYTES", 2**14)
    both = [copying(on_s3, tmp_path / "one") for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [built.digest] * 2
    num_reads = reads_of_caches(object_store)
    assert num_reads > 1
    open_copy(TRAIN, on_s3, tmp_path / "other")
    assert reads_of_caches(object_store) == num_reads


def test_a_copy_that_was_killed_in_the_middle_counts_nowhere_and_is_cleared_away(
    on_s3: str, built: CachedSplit, tmp_path: Path
) -> None:
    killed = copying(on_s3, tmp_path, dies_at=3)
    killed.communicate()
    assert killed.returncode == -9
    (draft,) = tmp_path.glob(".*.part")
    assert 0 < draft.stat().st_size < built.path.stat().st_size
    assert find_copy(TRAIN, on_s3, tmp_path) is None
    assert open_copy(TRAIN, on_s3, tmp_path).digest == built.digest
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".arrow", ".lock"]


def test_a_folder_of_images_is_no_published_place(small_data: Path) -> None:
    assert not is_published(small_data / "data")
    assert is_published("s3://papers/data")
