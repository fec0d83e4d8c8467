"""Where trials leave their records: a local folder, a shared folder or an object store (pyarrow filesystems).

Files appear whole or not at all, and "not found" is said of what is not there alone. Loads neither torch nor ray.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from pathlib import Path
from typing import Any

from trainer.remote import advice, arrow_fs, may_be_gone, open_remote, put, refuse_missing_bucket, without_keys

_CHUNK_BYTES = 16 * 2**20


class Storage:
    """A folder that may be local or remote; paths inside it are relative, with forward slashes.

    `name` is for persons; `url` may hold keys and is for programs only. Where storage cannot tell whether something is
    there, every question raises an OSError that names the path: "not found" is said of what is not there alone.
    """

    _secrets: tuple[str, ...] = ()
    _is_confirmed = False

    def __init__(self, url: str) -> None:
        self.url = url
        if "://" in url:
            remote = open_remote(url)
            self._filesystem, self._root, self._secrets = remote.filesystem, remote.root, remote.secrets
        else:
            self._filesystem, self._root = arrow_fs().LocalFileSystem(), str(Path(url).expanduser().absolute())
        self.is_local = isinstance(self._filesystem, arrow_fs().LocalFileSystem)

    @property
    def name(self) -> str:
        """What a person calls this storage."""
        return self._root if self.is_local else without_keys(self.url)

    def locate(self, path: str) -> str:
        """Where `path` lies, as a person would write it."""
        return f"{self.name}/{path}"

    def url_of(self, path: str) -> str:
        """Where `path` lies, for a program that opens it: with keys and all else the URL says."""
        place, mark, words = self.url.partition("?")
        return f"{self._root}/{path}" if self.is_local else f"{place.rstrip('/')}/{path}{mark}{words}"

    def _full(self, path: str) -> str:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{path!r} is no path inside the storage {self.name}")
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        """Read a file. Raises: FileNotFoundError where there is none."""
        full = self._full(path)
        with self._asking("read", path), self._filesystem.open_input_stream(full) as stream:
            return bytes(stream.read())

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file's content piece by piece, for what is too large for memory. Raises: as `read`."""
        full = self._full(path)
        with self._asking("read", path), self._filesystem.open_input_stream(full) as stream:
            while chunk := bytes(stream.read(_CHUNK_BYTES)):
                yield chunk

    def write(self, path: str, content: bytes | mmap) -> None:
        """Write a file so that it appears whole or not at all.

        Raises: OSError that names the path and what is free, where the storage is full or away.
        """
        full = self._full(path)
        try:
            if self.is_local:
                _write_local(Path(full), content)
            else:
                put(self._filesystem, full, content)
        except OSError as error:
            raise self._explained("write", path, error) from None

    def _free_space(self) -> str:
        with suppress(OSError):
            stat = os.statvfs(next(p for p in (Path(self._root), *Path(self._root).parents) if p.exists()))
            return f"{stat.f_bavail * stat.f_frsize / 2**20:.0f} MiB free"
        return "free space unknown"

    def names(self, path: str) -> list[str]:
        """Sorted names of the files and folders directly below `path`; empty where there is no such folder."""
        selector = arrow_fs().FileSelector(self._full(path), allow_not_found=True)
        try:
            with self._asking("list", path):
                names = sorted(info.base_name for info in self._filesystem.get_file_info(selector))
        except NotADirectoryError:
            return []
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.locate(path)} holds a name that is no text: {error}") from error
        if not names:
            self._confirm("list", path)
        return names

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return bool(self._look_at(path).type != arrow_fs().FileType.NotFound)

    def modified(self, path: str) -> float:
        """Time of the last change by the storage's clock, in unix seconds; 0 where there is nothing."""
        info = self._look_at(path)
        return info.mtime_ns / 1e9 if info.mtime_ns else 0.0

    def _look_at(self, path: str) -> Any:
        full = self._full(path)
        with self._asking("look at", path):
            info = self._filesystem.get_file_info(full)
        if info.type == arrow_fs().FileType.NotFound:
            self._confirm("look at", path)
        return info

    def now(self) -> float:
        """The storage's clock, in unix seconds: what a file written now is stamped with."""
        probe = f"clock/{uuid.uuid4().hex}"
        self.write(probe, b"")
        stamp = self.modified(probe)
        self.remove(probe)
        return stamp

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; nothing happens where there is none."""
        full = self._full(path)
        with suppress(FileNotFoundError, NotADirectoryError), self._asking("remove", path):
            if self._filesystem.get_file_info(full).type == arrow_fs().FileType.Directory:
                self._filesystem.delete_dir(full)
            else:
                self._filesystem.delete_file(full)

    @contextmanager
    def _asking(self, what: str, path: str) -> Iterator[None]:
        """Let an answer other than "not found" say what could not be done, and where."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            self._confirm(what, path)
            raise
        except OSError as error:
            if may_be_gone(error) and not self.exists(path):
                raise FileNotFoundError(f"{self.locate(path)} is gone") from None
            raise self._explained(what, path, error) from None

    def _confirm(self, what: str, path: str) -> None:
        """That nothing was found counts in a bucket that is there: without one every trial would read as missing."""
        if self._is_confirmed or self.is_local:
            return
        try:
            refuse_missing_bucket(self._filesystem, self._root)
        except OSError as error:
            raise self._explained(what, path, error) from None
        self._is_confirmed = True

    def _explained(self, what: str, path: str, error: OSError) -> OSError:
        space = f" ({self._free_space()})" if what == "write" and self.is_local else ""
        hint = "" if self.is_local else advice(str(error))
        message = f"cannot {what} {self.locate(path)}{space}: {error}{hint}"
        for secret in self._secrets:
            message = message.replace(secret, "…")
        return OSError(message)


def _write_local(target: Path, content: bytes | mmap) -> None:
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
