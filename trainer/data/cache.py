"""A split at training size in one memory-mapped Arrow file: built once, read without copying. Loads no torch, no ray.

Row i is sample i of the split in order of names: `name`, `image` (H x W x 3 bytes) and `label` (H x W bytes, null where
there is none). The file ends with an empty record batch whose metadata holds the digest of the pixels.
"""

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from trainer.data.once import found_or_made, write_whole
from trainer.data.resizing import Array, Filters

FORMAT_VERSION = 1
_BATCH_BYTES = 32 * 2**20
_MOST_PROBLEMS = 20

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


def weights_folder(given: str | None, *, data: str, cache: str | None) -> Path:
    """Where initial weights lie: as given, else `weights` below the data; where data is a URL, below the caches."""
    if given:
        return Path(given).expanduser()
    return (cache_folder(cache) if "://" in data else Path(data).expanduser()) / "weights"


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class CachedSplit:
    """A split at training size; images and labels are read-only views of the mapped file.

    `has_label` [N] bool; `digest` is the SHA-256 of names, pixels and labels, equal wherever these are; `key` says what
    files it was built from (`cache_key`).
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
    key: str = ""

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
    plan = _Plan(layout, samples, height, width, filters, key)
    return found_or_made(path, lambda: open_whole(path, key), lambda: _build(path, plan, progress))


def find_cache(
    layout: Layout, split: str, *, height: int, width: int, folder: Path, filters: Filters = Filters()
) -> CachedSplit | None:
    """Open what `open_cache` would open without building anything; None where it would have to be built.

    Raises: DataError where the files of the split cannot be listed.
    """
    key = cache_key(layout, split, layout.samples(split), height=height, width=width, filters=filters)
    return open_whole(folder / _file_name(layout, split, key, size=f"{height}x{width}{filters.suffix}"), key)


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


def open_whole(path: Path, key: str) -> CachedSplit | None:
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
        key=key,
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


def _build(path: Path, plan: _Plan, progress: Progress | None) -> None:
    write_whole(path, plan.file_bytes, lambda file: _write(file, plan, progress))


def _write(file: BinaryIO, plan: _Plan, progress: Progress | None) -> None:
    digest, schema = _begun_digest(plan.height, plan.width), plan.schema
    with pa.ipc.new_file(file, schema) as writer:
        for batch in _batches(plan, progress):
            for name, image, label in batch:
                _add(digest, name, image, label)
            writer.write_batch(_record_batch(batch, plan, schema))
        closing = pa.RecordBatch.from_pylist([], schema=schema)
        writer.write_batch(closing, custom_metadata={"digest": digest.hexdigest()})


def pixels_digest(cached: CachedSplit) -> str:
    """What the digest of a cache is by the bytes that it holds now; reads all of them."""
    digest = _begun_digest(cached.height, cached.width)
    for index, (name, has_label) in enumerate(zip(cached.names, cached.has_label, strict=True)):
        _add(digest, name, cached.image(index), cached.label(index) if has_label else None)
    return str(digest.hexdigest())


def _begun_digest(height: int, width: int) -> Any:
    return hashlib.sha256(f"{height}x{width}".encode())


def _add(digest: Any, name: str, image: Array, label: Array | None) -> None:
    digest.update(name.encode() + b"\0")
    digest.update(image.data)
    digest.update(b"\0" if label is None else b"\1")
    if label is not None:
        digest.update(label.data)


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
