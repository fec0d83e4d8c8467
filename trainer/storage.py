"""Where trials leave their records: a local folder, a shared folder or an object store (pyarrow filesystems).

Files appear whole or not at all, and "not found" is said of what is not there alone. Loads neither torch nor ray.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from pathlib import Path

from trainer.local import Found, LocalFiles
from trainer.remote import RemoteFiles, advice, may_be_gone, open_remote, without_keys

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
        self._files: LocalFiles | RemoteFiles
        if "://" in url:
            remote = open_remote(url)
            self._files, self._root, self._secrets = remote.files, remote.root, remote.secrets
        else:
            self._files, self._root = LocalFiles(), str(Path(url).expanduser().absolute())
        self.is_local = isinstance(self._files, LocalFiles)

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
        with self._asking("read", path):
            return self._files.read(full)

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file's content piece by piece, for what is too large for memory. Raises: as `read`."""
        full = self._full(path)
        with self._asking("read", path):
            yield from self._files.chunks(full, _CHUNK_BYTES)

    def write(self, path: str, content: bytes | mmap) -> None:
        """Write a file so that it appears whole or not at all.

        Raises: OSError that names the path and what is free, where the storage is full or away.
        """
        full = self._full(path)
        try:
            self._files.write(full, content)
        except OSError as error:
            raise self._explained("write", path, error) from None

    def _free_space(self) -> str:
        with suppress(OSError):
            stat = os.statvfs(next(p for p in (Path(self._root), *Path(self._root).parents) if p.exists()))
            return f"{stat.f_bavail * stat.f_frsize / 2**20:.0f} MiB free"
        return "free space unknown"

    def names(self, path: str) -> list[str]:
        """Sorted names of the files and folders directly below `path`; empty where there is no such folder."""
        full = self._full(path)
        try:
            with self._asking("list", path):
                names = sorted(self._files.names(full))
                "".join(names).encode()
        except UnicodeError as error:
            raise ValueError(f"{self.locate(path)} holds a name that is no text: {error}") from error
        if not names:
            self._confirm("list", path)
        return names

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self._find(path) is not None

    def modified(self, path: str) -> float:
        """Time of the last change by the storage's clock, in unix seconds; 0 where there is nothing."""
        found = self._find(path)
        return 0.0 if found is None else found.modified_ns / 1e9

    def _find(self, path: str) -> Found | None:
        full = self._full(path)
        with self._asking("look at", path):
            found = self._files.find(full)
        if found is None:
            self._confirm("look at", path)
        return found

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
            self._files.remove(full)

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
        if self._is_confirmed or isinstance(self._files, LocalFiles):
            return
        try:
            self._files.refuse_missing_bucket(self._root)
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
