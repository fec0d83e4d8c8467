"""Storage that dies, fails or waits at a chosen operation: on a local folder, or on an object store in memory."""

import errno
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs as arrow_fs

from trainer.storage import Storage

T = TypeVar("T")
RAM = Path("/dev/shm")


class Died(BaseException):
    """The process is gone, as after SIGKILL: nothing may handle it, and nothing is written any more."""


FaultKind = Literal["before", "middle", "middle_reversed", "after", "full", "away", "unsure"]
DEATHS: tuple[FaultKind, ...] = ("before", "middle", "middle_reversed", "after")
ERRORS: tuple[FaultKind, ...] = ("full", "away", "unsure")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at an operation, counted from 0.

    "before", "middle", "after": the process dies there. In the middle a write leaves half a draft on a local folder and
    nothing on an object store; the removal of a folder has removed half of its files, the first half by name or, where
    "reversed", the last. Operations without a middle die before. "full": no room for what is written; "away": OSError
    and nothing done, for `lasts` operations; "unsure": done, but OSError all the same.
    """

    at: int
    kind: FaultKind
    lasts: int = 1


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that was asked for."""

    name: str
    path: str


class FaultyStorage(Storage):
    """The real storage with a fault at one of its operations; `pause` is called before each and in the middle of it.

    `asked` are the operations in order; `sealed` the steps whose commit was written.
    """

    def __init__(self, url: str, fault: Fault | None = None, pause: Callable[[str], None] = lambda _what: None) -> None:
        if url.startswith("memory://"):
            self.url, self._root, self.is_local = url, "/" + url.removeprefix("memory://"), False
            self._filesystem = arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(MemoryFileSystem()))
        else:
            super().__init__(url)
        self.asked: list[Operation] = []
        self.sealed: list[int] = []
        self._fault = fault
        self._pause = pause
        self._count = 0
        self._is_dead = False

    # --- the operations -------------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes:
        assert not path.endswith(".part"), f"the draft {path} was read"
        return self._operate("read", path, lambda: super(FaultyStorage, self).read(path))

    def names(self, path: str) -> list[str]:
        return self._operate("names", path, lambda: super(FaultyStorage, self).names(path))

    def exists(self, path: str) -> bool:
        return self._operate("exists", path, lambda: super(FaultyStorage, self).exists(path))

    def write(self, path: str, content: bytes) -> None:
        def write(fault: Fault | None) -> None:
            if not self.is_local:  # nothing is visible before all of it is
                self._in_the_middle_of_a_write(path, fault)
            there: dict[Path, bytes] = {}

            def in_the_middle() -> None:
                if fault is not None and fault.kind.startswith("middle"):
                    there.update(files_beside(Path(self._full(path))))
                self._in_the_middle_of_a_write(path, fault)

            with at_sync(in_the_middle) as synced:
                try:
                    super(FaultyStorage, self).write(path, content)
                except Died:
                    leave_half(there)
                    raise
                assert synced or not self.is_local, f"{path} appeared before it was synced"
            if path.endswith("/commit.json"):
                self.sealed.append(int(path.split("/")[-2].removeprefix("checkpoint-")))

        self._operate("write", path, write)

    def remove(self, path: str) -> None:
        def remove(fault: Fault | None) -> None:
            files = super(FaultyStorage, self).names(path)
            if fault is not None and fault.kind == "middle_reversed":
                files.reverse()
            for number, name in enumerate(files):  # one by one, as the file system does
                if number == (len(files) + 1) // 2 and fault is not None and fault.kind.startswith("middle"):
                    self._die()
                self._pause(f"{path}/{name}")
                super(FaultyStorage, self).remove(f"{path}/{name}")
            super(FaultyStorage, self).remove(path)

        self._operate("remove", path, remove)

    # --- the faults -----------------------------------------------------------------------------------------------

    def _operate(self, name: str, path: str, act: Callable[..., T]) -> T:
        if self._is_dead:
            raise Died
        self._pause(f"{name} {path}")
        fault, self._count = self._fault_at(self._count), self._count + 1
        kind = None if fault is None else fault.kind
        if kind == "before" or (name in ("read", "names", "exists") and kind in ("middle", "middle_reversed")):
            self._die()
        if kind == "away":
            raise OSError(errno.EIO, f"the storage is away, asked to {name}", path)
        try:
            result = act(fault) if name in ("write", "remove") else act()
        finally:
            self.asked.append(Operation(name, path))
        if kind == "after":
            self._die()
        if kind == "unsure":
            raise OSError(errno.ETIMEDOUT, f"no answer when asked to {name}", path)
        return result

    def _fault_at(self, count: int) -> Fault | None:
        fault = self._fault
        return fault if fault is not None and fault.at <= count < fault.at + fault.lasts else None

    def _in_the_middle_of_a_write(self, path: str, fault: Fault | None) -> None:
        if fault is not None and fault.kind.startswith("middle"):
            self._die()
        if fault is not None and fault.kind == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        self._pause(f"sync {path}")

    def _die(self) -> None:
        self._is_dead = True
        raise Died


def files_beside(target: Path) -> dict[Path, bytes]:
    """The files in a file's folder, with their content."""
    return {path: path.read_bytes() for path in target.parent.iterdir() if path.is_file()}


def leave_half(there: dict[Path, bytes]) -> None:
    """Put back what was cleared away after a death, as a killed process could not: the half that was written of it."""
    for path, content in there.items():
        if not path.exists():
            path.write_bytes(content[: len(content) // 2])


_AT_SYNC = threading.local()


@contextmanager
def at_sync(act: Callable[[], None]) -> Iterator[list[bool]]:
    """Call `act` where this thread's next write is synced, between its draft and its name; tells whether it was."""
    synced: list[bool] = []

    def note() -> None:
        synced.append(True)
        act()

    _AT_SYNC.act = note
    try:
        yield synced
    finally:
        _AT_SYNC.act = None


def _sync(_file: int) -> None:
    act = getattr(_AT_SYNC, "act", None)
    if act is not None:
        act()


@contextmanager
def hooked_sync() -> Iterator[None]:
    """What `at_sync` needs for as long as faulty storages are used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.storage.os.fsync", _sync)
        yield


@contextmanager
def scratch(*, is_local: bool = True) -> Iterator[str]:
    """The URL of an empty storage in memory: a folder, or an object store."""
    with tempfile.TemporaryDirectory(dir=RAM if RAM.is_dir() else None, prefix="chaos-") as folder:
        if is_local:
            yield folder
        else:
            root = Path(folder).name
            MemoryFileSystem().makedirs(f"/{root}")
            try:
                yield f"memory://{root}"
            finally:
                MemoryFileSystem().rm(f"/{root}", recursive=True)
