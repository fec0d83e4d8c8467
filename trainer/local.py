"""A local or mounted folder as the few things that a storage asks of files."""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Found:
    """A file or folder that is there, and the time of its last change in nanoseconds; 0 where nobody knows."""

    is_folder: bool
    modified_ns: int


class LocalFiles:
    """Files of this machine, by absolute path. Raises: what the system says (OSError)."""

    def read(self, path: str) -> bytes:
        """All of a file."""
        with open(path, "rb") as file:  # noqa: PTH123  (a thousand times for one look at a table)
            return file.read()

    def chunks(self, path: str, num_bytes: int) -> Iterator[bytes]:
        """A file piece by piece."""
        with Path(path).open("rb") as file:
            while chunk := file.read(num_bytes):
                yield chunk

    def names(self, path: str) -> list[str]:
        """What lies directly in a folder, in no order; nothing where there is none."""
        try:
            return os.listdir(path)  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []

    def find(self, path: str) -> Found | None:
        """What is at a place; None where nothing is."""
        try:
            found = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Found(stat.S_ISDIR(found.st_mode), found.st_mtime_ns)

    def write(self, path: str, content: bytes | mmap) -> None:
        """Write a file so that it appears whole or not at all, on the disk before it has its name."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it, also where another process does so at the same time."""
        place = Path(path)
        if place.is_symlink() or not place.is_dir():
            place.unlink()
            return
        while place.exists():
            try:
                shutil.rmtree(place)
            except FileNotFoundError:
                continue  # somebody was faster with a part of it
