"""Caches of splits that were published for other machines, in a shared folder or on S3: a machine copies each once.

    <place>/published/<what>-<12 hex digits>.json    sealed: which file it is, how long, with which digests
    <place>/published/<what>-<16 hex digits>.arrow   named by its SHA-256: another content has another name

An entry is found by what a spec says of its dataset; no image has to be there. Loads neither torch nor ray.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

from trainer.data.cache import CachedSplit, open_whole, pixels_digest
from trainer.data.folders import DataError
from trainer.data.once import found_or_made, write_whole
from trainer.errors import SetupError
from trainer.records import DamagedRecord, FileWord, Record, Whole
from trainer.spec import Dataset
from trainer.storage import Storage

log = logging.getLogger("mixgrid.data")

FOLDER = "published"
"""What a published place keeps its files in."""
_AGAIN = "`mixgrid data publish TABLE --data DIR --to {place}` on a machine that has the images"


class UnfitCopy(SetupError):  # noqa: N818
    """What lies in a published place is not what was published: no trial's fault, so nothing is recorded of it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A split as a spec wants it: at the dataset's size, or as its files lie there."""

    dataset: Dataset
    split: str
    is_full: bool = False

    @property
    def name(self) -> str:
        """What its dataset is called."""
        return str(getattr(self.dataset, "name", self.dataset.kind))

    @property
    def title(self) -> str:
        """For a person, and the first part of file names: "cityscapes-train-512x1024"."""
        size = "full" if self.is_full else f"{self.dataset.height}x{self.dataset.width}"
        return f"{self.name}-{self.split.replace('/', '_')}-{size}"

    @property
    def entry(self) -> str:
        """The path of its entry. Every field of the dataset counts; two equal caches share a file all the same."""
        said = json.dumps([self.dataset.model_dump(mode="json"), self.split, self.is_full], sort_keys=True)
        return f"{FOLDER}/{self.title}-{hashlib.sha256(said.encode()).hexdigest()[:12]}.json"


class PublishedSplit(Record):
    """What an entry says: the cache's file and its SHA-256, its `key`, the `digest` of its pixels, and its names."""

    file: FileWord
    num_bytes: Whole
    sha256_of_file: str
    key: str
    digest: str
    names: tuple[str, ...]
    without_label: tuple[str, ...]


def is_published(data: str | Path) -> bool:
    """Whether a place of data holds published caches rather than images: every URL, and a folder that says so."""
    return "://" in str(data) or (Path(data).expanduser() / FOLDER).is_dir()


def find_entry(place: Storage, wanted: Wanted) -> PublishedSplit | None:
    """What was published of a split. Raises: UnfitCopy where the entry is damaged; OSError where nobody answers."""
    try:
        return PublishedSplit.find(place, wanted.entry)
    except DamagedRecord as error:
        raise UnfitCopy(f"{error}: publish it again: {_AGAIN.format(place=place.name)}") from error


def read_entry(place: Storage, wanted: Wanted) -> PublishedSplit:
    """The same. Raises: DataError also where nothing was published."""
    entry = find_entry(place, wanted)
    if entry is None:
        raise DataError(
            f"{wanted.title} was not published in {place.name} (looked for {wanted.entry}): "
            f"{_AGAIN.format(place=place.name)}, with the same --set"
        )
    return entry


def find_copy(wanted: Wanted, data: str, folder: Path) -> CachedSplit | None:
    """This machine's copy of what is published now; None where it has none. Nothing is copied."""
    entry = find_entry(Storage(data), wanted)
    return None if entry is None else open_whole(folder / entry.file, entry.key)


def open_copy(wanted: Wanted, data: str, folder: Path) -> CachedSplit:
    """This machine's copy of a published split, copied first where it has none.

    A second process that asks for the same waits until the first has copied it. A file that is not what its entry says
    is refused before it has a name, and never opened.

    Args:
        data: the published place.
        folder: where caches lie (`cache_folder`).
    Raises: DataError where it was not published, UnfitCopy where it is another file; OSError where storage does not
        answer or the folder is full: a later try may find it otherwise.
    """
    place = Storage(data)
    entry = read_entry(place, wanted)
    path = folder / entry.file
    return found_or_made(path, lambda: open_whole(path, entry.key), lambda: _copy(place, wanted, entry, path))


def _copy(place: Storage, wanted: Wanted, entry: PublishedSplit, path: Path) -> None:
    source = f"{FOLDER}/{entry.file}"

    def write(file: BinaryIO) -> None:
        digest = hashlib.sha256()
        try:
            for chunk in place.chunks(source):
                file.write(chunk)
                digest.update(chunk)
        except FileNotFoundError:
            raise UnfitCopy(
                f"{place.locate(source)} is gone: publish it again: {_AGAIN.format(place=place.name)}"
            ) from None
        if digest.hexdigest() != entry.sha256_of_file:
            raise UnfitCopy(
                f"{place.locate(source)} is not what was published as {wanted.title}: {file.tell():,} bytes with "
                f"SHA-256 {digest.hexdigest()[:16]}…, but {entry.num_bytes:,} with {entry.sha256_of_file[:16]}… were "
                f"published. It is not used; publish it again: {_AGAIN.format(place=place.name)}"
            )

    log.info("copying %s from %s to %s", wanted.title, place.name, path)
    write_whole(path, entry.num_bytes, write)


def publish(cached: CachedSplit, wanted: Wanted, place: Storage) -> tuple[str, bool]:
    """Put a cache where other machines copy it from: the file first, then its entry. Twice is once.

    Returns: where the file lies, and whether it had to be written.
    Raises: UnfitCopy where the pixels of the cache are not those it was built from.
    """
    if pixels_digest(cached) != cached.digest:
        raise UnfitCopy(f"{cached.path} has changed since it was built: remove it, and publish again")
    with cached.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        entry = PublishedSplit(
            file=f"{wanted.title}-{sha256[:16]}.arrow",
            num_bytes=cached.path.stat().st_size,
            sha256_of_file=sha256,
            key=cached.key,
            digest=cached.digest,
            names=cached.names,
            without_label=tuple(n for n, has in zip(cached.names, cached.has_label, strict=True) if not has),
        )
        is_new = not _is_whole(place, entry)
        if is_new:
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                place.write(f"{FOLDER}/{entry.file}", content)
    place.write(wanted.entry, entry.sealed())
    return place.locate(f"{FOLDER}/{entry.file}"), is_new


def _is_whole(place: Storage, entry: PublishedSplit) -> bool:
    """Whether the file is there as it should be, which takes reading it."""
    digest = hashlib.sha256()
    try:
        for chunk in place.chunks(f"{FOLDER}/{entry.file}"):
            digest.update(chunk)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == entry.sha256_of_file
