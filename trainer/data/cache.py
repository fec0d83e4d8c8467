"""A split at training size in one memory-mapped Arrow file: built once, read without copying. Loads no torch, no ray.

Row i is sample i of the split in order of names: `name`, `image` (H x W x 3 bytes) and `label` (H x W bytes, null where
there is none). The file ends with an empty record batch whose metadata holds the digest of the pixels.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.data.folders import (
    IGNORE,
    DataError,
    Layout,
    Sample,
    read_sample,
)
from trainer.data.resizing import Array, Filters

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
_BATCH_BYTES = 32 * 2**20
_MOST_PROBLEMS = 20
_CACHE_ELSEWHERE = "MIXGRID_CACHE names another folder for caches"

Progress = Callable[[int, int], None]
"""Called with the number of samples done and of all."""
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def cache_folder(option: str | None) -> Path:
    """Where caches lie: the option, else MIXGRID_CACHE, else mixgrid below XDG_CACHE_HOME or ~/.cache."""
    given = option or os.environ.get("MIXGRID_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mixgrid"


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class CachedSplit:
    """A split at training size; images and labels are read-only views of the mapped file.

    `has_label` [N] bool; `digest` is the SHA-256 of names, pixels and labels, equal wherever these are.
    """

    path: Path
    names: tuple[str, ...]
    has_label: NDArray[np.bool_]
    digest: str
    class_names: tuple[str, ...]
    height: int
    width: int
    _images: tuple[Array, ...]  # one [n, H, W, 3] per record batch; all but the last have the same n
    _labels: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Array:
        """One image: [H, W, 3] uint8, RGB, a read-only view. Raises: IndexError outside 0..N-1."""
        return self._row(self._images, index)

    def label(self, index: int) -> Array:
        """One label map: [H, W] uint8, a read-only view, full of IGNORE where there is none. Raises: IndexError."""
        return self._row(self._labels, index)

    def images(self, indices: Iterable[int]) -> Array:
        """Images as a copy of their own: [n, H, W, 3] uint8."""
        return self._copy(self._images, list(indices))

    def labels(self, indices: Iterable[int]) -> Array:
        """Label maps as a copy of their own: [n, H, W] uint8."""
        return self._copy(self._labels, list(indices))

    def _row(self, batches: tuple[Array, ...], index: int) -> Array:
        if not 0 <= index < len(self.names):
            raise IndexError(f"sample {index} of {len(self.names)} in {self.path}")
        batch, row = divmod(index, len(batches[0]))
        view: Array = batches[batch][row]
        return view

    def _copy(self, batches: tuple[Array, ...], indices: Sequence[int]) -> Array:
        copy = np.empty((len(indices), *batches[0].shape[1:]), np.uint8)
        for place, index in enumerate(indices):
            copy[place] = self._row(batches, index)
        return copy


def open_cache(
    layout: Layout,
    split: str,
    *,
    height: int,
    width: int,
    folder: Path,
    filters: Filters = Filters(),
    progress: Progress | None = None,
) -> CachedSplit:
    """Open the cache of a split at a size; build it first where it is missing, damaged or of other files.

    A second process that asks for the same cache waits until the first has built it. A cut file is noticed and built
    again, with a warning in the log; changed bytes in the middle of a whole file are not.

    Args:
        folder: where caches lie (`cache_folder`).
        filters: how files are brought to the size.
        progress: called while building, in this thread.
    Raises: DataError that names up to 20 unusable files; OSError naming the path, what is needed and what is free,
        where the cache cannot be written.
    """
    samples = layout.samples(split)
    key = cache_key(layout, split, samples, height=height, width=width, filters=filters)
    path = folder / _file_name(layout, split, key, size=f"{height}x{width}{filters.suffix}")
    found = _open_whole(path, key)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise OSError(f"cannot write to the cache folder {folder}: {error}; {_CACHE_ELSEWHERE}") from error
    with lock, _locked(lock, path):
        found = _open_whole(path, key)
        if found is None:
            if path.exists():
                log.warning("%s is cut off or damaged: building it again", path)
            _build(path, _Plan(layout, samples, height, width, filters, key), progress)
            found = _open_whole(path, key)
    assert found is not None, f"{path} was just written and cannot be read"
    return found


def find_cache(
    layout: Layout, split: str, *, height: int, width: int, folder: Path, filters: Filters = Filters()
) -> CachedSplit | None:
    """Open what `open_cache` would open without building anything; None where it would have to be built.

    Raises: DataError where the files of the split cannot be listed.
    """
    key = cache_key(layout, split, layout.samples(split), height=height, width=width, filters=filters)
    return _open_whole(folder / _file_name(layout, split, key, size=f"{height}x{width}{filters.suffix}"), key)


def _file_name(layout: Layout, split: str, key: str, *, size: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{layout.name}-{split}-{size}")
    return f"{stem}-{key[:16]}.arrow"


def cache_key(
    layout: Layout, split: str, samples: Sequence[Sample], *, height: int, width: int, filters: Filters = Filters()
) -> str:
    """SHA-256 over all that decides the content of a cache; a file counts by relative path, size and time of change."""
    content = {
        "version": FORMAT_VERSION,
        "layout": layout.name,
        "classes": layout.class_names,
        "label_table": layout.label_table.tobytes().hex(),
        "split": split,
        "size": (height, width),
        "resize": filters.rules,
        "samples": [(s.name, _stamp(layout.root, s.image), s.label and _stamp(layout.root, s.label)) for s in samples],
    }
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _stamp(root: Path, file: Path) -> tuple[str, int, int]:
    try:
        stat = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    path, below = str(file), f"{root}{os.sep}"  # relpath alone would take longer than all else for a large split
    name = path.removeprefix(below) if path.startswith(below) else os.path.relpath(file, root)
    return name, stat.st_size, stat.st_mtime_ns


def _open_whole(path: Path, key: str) -> CachedSplit | None:
    """Map a cache; None where there is none, or none that is whole and has this key."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        about = {name.decode(): value.decode() for name, value in reader.schema.metadata.items()}
        closing = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        digest = closing.custom_metadata["digest"].decode()
        batches = [reader.get_batch(place) for place in range(reader.num_record_batches - 1)]
        names = tuple(name for batch in batches for name in batch.column("name").to_pylist())
        if about["key"] != key or int(about["rows"]) != len(names):
            return None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
    height, width = int(about["height"]), int(about["width"])
    return CachedSplit(
        path=path,
        names=names,
        has_label=np.concatenate(
            [batch.column("label").is_valid().to_numpy(zero_copy_only=False) for batch in batches]
        ),
        digest=digest,
        class_names=tuple(json.loads(about["class_names"])),
        height=height,
        width=width,
        _images=tuple(_view(batch.column("image"), (height, width, 3)) for batch in batches),
        _labels=tuple(_view(batch.column("label"), (height, width)) for batch in batches),
    )


def _view(column: Any, shape: tuple[int, ...]) -> Array:
    """A column of fixed-size binaries as [n, *shape] uint8, without a copy; nulls keep the bytes they were given."""
    count = len(column) * int(np.prod(shape))
    return np.frombuffer(column.buffers()[1], np.uint8, count).reshape(len(column), *shape)


# --- building -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a cache is to be built from."""

    layout: Layout
    samples: Sequence[Sample]
    height: int
    width: int
    filters: Filters
    key: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one image and its label."""
        return self.height * self.width * 4

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file, rounded up."""
        return len(self.samples) * (self.row_bytes + 256) + 2**16

    @property
    def schema(self) -> Any:
        """The Arrow schema, with all that is known before the pixels."""
        pixels = self.height * self.width
        columns = [
            pa.field("name", pa.string(), nullable=False),
            pa.field("image", pa.binary(3 * pixels), nullable=False),
            pa.field("label", pa.binary(pixels)),
        ]
        about = {
            "version": str(FORMAT_VERSION),
            "key": self.key,
            "rows": str(len(self.samples)),
            "height": str(self.height),
            "width": str(self.width),
            "class_names": json.dumps(self.layout.class_names),
        }
        return pa.schema(columns, metadata=about)


@contextmanager
def _locked(lock: BinaryIO, path: Path) -> Iterator[None]:
    """Hold a lock on an open file; it is gone when the file is closed or its process dies."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("%s is being built by another process: waiting for it", path)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:  # some network file systems have no locks: building twice costs time and harms nothing
        log.warning("no lock in %s (%s): several processes may build the same cache", path.parent, error)
        yield
        return
    for leftover in path.parent.glob(f".{path.name}.*.part"):  # of a process that was killed: we hold the lock now
        leftover.unlink(missing_ok=True)
    yield


def _build(path: Path, plan: _Plan, progress: Progress | None) -> None:
    """Write a cache so that it appears whole or not at all."""
    free = shutil.disk_usage(path.parent).free
    if free < plan.file_bytes:
        raise OSError(_no_room(path, plan.file_bytes))
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with draft.open("wb") as file:
            _write(file, plan, progress)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise OSError(f"{_no_room(path, plan.file_bytes)}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _no_room(path: Path, needed: int) -> str:
    free = shutil.disk_usage(path.parent).free
    return f"cannot write {path} ({needed:,} bytes needed, {free:,} bytes free); {_CACHE_ELSEWHERE}"


def _write(file: BinaryIO, plan: _Plan, progress: Progress | None) -> None:
    digest, schema = hashlib.sha256(f"{plan.height}x{plan.width}".encode()), plan.schema
    with pa.ipc.new_file(file, schema) as writer:
        for batch in _batches(plan, progress):
            for name, image, label in batch:
                digest.update(name.encode() + b"\0")
                digest.update(image.data)
                digest.update(b"\0" if label is None else b"\1")
                if label is not None:
                    digest.update(label.data)
            writer.write_batch(_record_batch(batch, plan, schema))
        closing = pa.RecordBatch.from_pylist([], schema=schema)
        writer.write_batch(closing, custom_metadata={"digest": digest.hexdigest()})


Row = tuple[str, Array, Array | None]


def _batches(plan: _Plan, progress: Progress | None) -> Iterator[list[Row]]:
    """The rows in batches of at most _BATCH_BYTES (or one row), so that memory stays bounded."""
    most = max(1, min(256, _BATCH_BYTES // plan.row_bytes))
    batch: list[Row] = []
    for row in _rows(plan, progress):
        batch.append(row)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows(plan: _Plan, progress: Progress | None) -> Iterator[Row]:
    """The samples in order, at training size. Raises: DataError at the end, with up to 20 unusable files."""
    problems: list[str] = []

    def read(sample: Sample) -> tuple[Array, Array | None]:
        return read_sample(plan.layout, sample, height=plan.height, width=plan.width, filters=plan.filters)

    for done, (sample, pixels) in enumerate(in_order(read, plan.samples), start=1):
        try:
            row = (sample.name, *pixels.result())
        except DataError as error:
            problems.append(str(error))
            if len(problems) == _MOST_PROBLEMS:
                break
        else:
            if not problems:
                yield row
        if progress is not None:
            progress(done, len(plan.samples))
    if problems:
        count = f"{len(problems)} files" if len(problems) < _MOST_PROBLEMS else f"at least {len(problems)} files"
        raise DataError(f"{plan.layout.name}: {count} cannot be used:\n" + "\n".join(f"  {line}" for line in problems))


def _record_batch(batch: Sequence[Row], plan: _Plan, schema: Any) -> Any:
    pixels = plan.height * plan.width
    images = np.stack([image for _, image, _ in batch])
    labels = np.full((len(batch), plan.height, plan.width), IGNORE, np.uint8)
    has_label = np.array([label is not None for _, _, label in batch])
    for place, (_, _, label) in enumerate(batch):
        if label is not None:
            labels[place] = label
    valid = np.packbits(has_label, bitorder="little")
    columns = [
        pa.array([name for name, _, _ in batch], pa.string()),
        pa.Array.from_buffers(pa.binary(3 * pixels), len(batch), [None, pa.py_buffer(images)]),
        pa.Array.from_buffers(pa.binary(pixels), len(batch), [pa.py_buffer(valid), pa.py_buffer(labels)]),
    ]
    return pa.record_batch(columns, schema=schema)


def in_order(function: Callable[[Item], Answer], items: Sequence[Item]) -> Iterator[tuple[Item, "Future[Answer]"]]:
    """Call `function` in one thread per core, a few items ahead; yield each item with its future, in order."""
    threads = os.cpu_count() or 1
    pool, ahead = ThreadPoolExecutor(threads, thread_name_prefix="decode"), deque[tuple[Item, Future[Answer]]]()
    try:
        for item in items:
            ahead.append((item, pool.submit(function, item)))
            if len(ahead) > 2 * threads:
                yield ahead.popleft()
        yield from ahead
    finally:
        pool.shutdown(cancel_futures=True)
