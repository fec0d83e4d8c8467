"""A folder that is full, read-only or closed: an error says where, nothing half-written counts, another go mends it.

Where the machine lets us, on a small file system of its own; everywhere by a limit on the size of files.
"""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.contracts import StopAt, small_options, small_spec
from tests.rooms import Finished, Room
from trainer.checkpoint import newest_checkpoint
from trainer.host import NoHost
from trainer.reading import find_commits, trial_state
from trainer.run import Outcome
from trainer.storage import Storage

METHOD = "complexmix"
NOBODY = 65534


@pytest.fixture(scope="module")
def unbroken(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What six steps in one go leave."""
    room = Room(small_spec(METHOD), small_options(small_data, tmp_path_factory.mktemp("unbroken")))
    assert room.run() == Outcome("done")
    return room.finished()


class ActsAt(NoHost):
    """Does something when so many updates are reported."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self._step, self._act = step, act

    def report(self, progress: dict[str, float]) -> None:
        if progress["step"] == self._step:
            self._act()


def is_whole(storage: Storage, room: Room) -> bool:
    """Whether every file that counts can be read, and no draft is left."""
    found = newest_checkpoint(storage, room.spec.trial_id)
    drafts = list(Path(storage.name).rglob("*.part"))
    return found is not None and found[0] == find_commits(storage, room.spec.trial_id)[0] and drafts == []


# --- a limit on the size of files ---------------------------------------------------------------------------------


@contextmanager
def files_no_larger_than(num_bytes: int) -> Iterator[None]:
    """A write that goes beyond fails in its middle, as on a full disk; Python ignores the signal that comes with it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("num_bytes", [20_000, 1000, 0])
def test_training_where_no_more_can_be_written_ends_by_name_and_another_go_ends_it_the_same(
    num_bytes: int, small_data: Path, tmp_path: Path, unbroken: Finished
) -> None:
    room = Room(small_spec(METHOD), small_options(small_data, tmp_path / "runs"))
    room.run(StopAt(3))
    too_large = rf"^cannot write {tmp_path}/runs/trials/{room.spec.trial_id}/.* \(\d+ MiB free\): .*File too large"
    with files_no_larger_than(num_bytes), pytest.raises(OSError, match=too_large):
        room.run()
    assert trial_state(room.storage, room.spec.trial_id).step == 3
    assert is_whole(room.storage, room)
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken)


# --- a small file system ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)) != 0:
        pytest.skip("only root may mount a small file system, and only where mounting is allowed")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def mount(*words: str) -> int:
    return subprocess.run(["mount", *words], check=False, stderr=subprocess.DEVNULL).returncode


def fill(place: Path, *, but: int) -> None:
    """Leave about so many bytes free."""
    with suppress(OSError), (place / "ballast").open("wb") as ballast:
        while True:
            ballast.write(bytes(4096))
            ballast.flush()
    os.truncate(place / "ballast", (place / "ballast").stat().st_size - but)


@pytest.mark.parametrize("free", [0, 40_000])
def test_a_full_disk_ends_training_by_name_and_with_room_it_ends_the_same(
    free: int, small_disk: Path, small_data: Path, unbroken: Finished
) -> None:
    room = Room(small_spec(METHOD), small_options(small_data, small_disk / "runs"))
    with pytest.raises(OSError, match=rf"^cannot write {small_disk}/runs/trials/.* \(0 MiB free\): .*No space left"):
        room.run(ActsAt(4, lambda: fill(small_disk, but=free)))
    assert trial_state(room.storage, room.spec.trial_id).step == 3
    assert is_whole(room.storage, room)
    (small_disk / "ballast").unlink()
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken)


def test_a_full_disk_says_so_at_the_start(small_disk: Path, small_data: Path) -> None:
    fill(small_disk, but=0)
    room = Room(small_spec(METHOD), small_options(small_data, small_disk / "runs"))
    with pytest.raises(OSError, match=rf"^cannot write {small_disk}/runs/trials/.* \(0 MiB free\): .*No space left"):
        room.run()
    assert trial_state(room.storage, room.spec.trial_id).kind == "missing"


def test_a_disk_that_turns_read_only_ends_training_by_name_and_writable_again_it_ends_the_same(
    small_disk: Path, small_data: Path, unbroken: Finished
) -> None:
    room = Room(small_spec(METHOD), small_options(small_data, small_disk / "runs"))
    with pytest.raises(OSError, match=rf"^cannot write {small_disk}/runs/trials/.*: .*Read-only file system"):
        room.run(ActsAt(4, lambda: mount("-o", "remount,ro", str(small_disk))))
    assert trial_state(room.storage, room.spec.trial_id).step == 3
    mount("-o", "remount,rw", str(small_disk))
    assert is_whole(room.storage, room)
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken)


# --- a closed folder ----------------------------------------------------------------------------------------------


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Let nobody into a folder; root is let in everywhere and becomes somebody else."""
    mode, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(0o000)
    try:
        if user == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


def test_a_closed_folder_is_no_empty_storage(small_data: Path, tmp_path: Path, unbroken: Finished) -> None:
    room = Room(small_spec(METHOD), small_options(small_data, tmp_path / "closed" / "runs"))
    room.run(StopAt(3))
    storage, trial_id = room.storage, room.spec.trial_id
    with closed(tmp_path / "closed"):
        for ask in (storage.read, storage.names, storage.exists, storage.modified, storage.remove):
            with pytest.raises(OSError, match=rf"^cannot .* {tmp_path}/closed/runs/trials: .*Permission denied") as no:
                ask("trials")
            assert not isinstance(no.value, FileNotFoundError)
        with pytest.raises(OSError, match="Permission denied"):
            trial_state(storage, trial_id)
        with pytest.raises(OSError, match="Permission denied"):
            room.run()
        with pytest.raises(
            OSError, match=r"^cannot write .*/closed/runs/a \(free space unknown\): .*Permission denied"
        ):
            storage.write("a", b"1")
    assert trial_state(storage, trial_id).step == 3
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken)
