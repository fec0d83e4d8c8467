"""A file of a cache folder that is made once on a machine and appears whole or not at all. Knows no image, no torch."""

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

log = logging.getLogger(__name__)

_CACHE_ELSEWHERE = "MIXGRID_CACHE names another folder for caches"
T = TypeVar("T")


def found_or_made(path: Path, find: Callable[[], T | None], make: Callable[[], None]) -> T:
    """What `find` finds of a file; where that is None, `make` writes it first, in one process at a time.

    Args:
        make: writes the file with `write_whole`, or raises.
    Raises: OSError naming the folder where it cannot be written to.
    """
    found = find()
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise OSError(f"cannot write to the cache folder {path.parent}: {error}; {_CACHE_ELSEWHERE}") from error
    with lock, _locked(lock, path):
        found = find()
        if found is None:
            if path.exists():
                log.warning("%s is cut off or damaged: making it again", path)
            make()
            found = find()
    assert found is not None, f"{path} was just written and cannot be read"
    return found


@contextmanager
def _locked(lock: BinaryIO, path: Path) -> Iterator[None]:
    """Hold a lock on an open file; it is gone when the file is closed or its process dies."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("%s is being made by another process: waiting for it", path)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:  # some network file systems have no locks: making it twice costs time and harms nothing
        log.warning("no lock in %s (%s): several processes may make the same file", path.parent, error)
        yield
        return
    for leftover in path.parent.glob(f".{path.name}.*.part"):  # of a process that was killed: we hold the lock now
        leftover.unlink(missing_ok=True)
    yield


def write_whole(path: Path, num_bytes: int, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a file that appears under its name only when all of it is on the disk.

    Args:
        num_bytes: what it will need at most.
    Raises: OSError naming the path, what is needed and what is free; whatever `write` raises.
    """
    if shutil.disk_usage(path.parent).free < num_bytes:
        raise OSError(_no_room(path, num_bytes))
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.errno is None:  # not of this disk: of the storage that is read, whose message says what it was
            raise
        raise OSError(f"{_no_room(path, num_bytes)}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _no_room(path: Path, needed: int) -> str:
    free = shutil.disk_usage(path.parent).free
    return f"cannot write {path} ({needed:,} bytes needed, {free:,} bytes free); {_CACHE_ELSEWHERE}"
