"""Streams of batches: which images a step sees is a pure function of (seed, stream, step); reading runs one step ahead.

A stream walks its pool in epochs; every epoch has its own permutation, computed from the seed. Nothing is stored, so a
resumed trial goes on with exactly the batch that comes next, at any world size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trainer.data.cache import CachedSplit
from trainer.data.pixels import HostPixels, Pixels
from trainer.data.pool_labels import PoolLabels
from trainer.data.resizing import resize_image, resize_label
from trainer.distributed import alone, rank, shard, world_size
from trainer.methods.base import Batch, Phase, Pool, PoolPart, Stream, phase_at
from trainer.randomness import fold_int, key_of, permutation, uniform_int
from trainer.spec import View

_EPOCHS_KEPT = 8
PIXELS_AT_ONCE = 2**20
"""Pixels of one batch without gradient: what a forward pass of the paper's network holds with ease."""


def positions_in_pool(key: int, step: int, batch: int, pool_size: int) -> list[int]:
    """Places in the pool of the global batch of a step; the global sample index counts through endless epochs."""
    indices = range(step * batch, (step + 1) * batch)
    return [int(_epoch_order(key, index // pool_size, pool_size)[index % pool_size]) for index in indices]


@lru_cache(maxsize=_EPOCHS_KEPT)
def _epoch_order(key: int, epoch: int, pool_size: int) -> Tensor:
    return permutation(fold_int(key, epoch), pool_size)


def on_device(image: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Images [n, H, W, 3] uint8 as [n, 3, H, W] in [0, 1] on the device, moved there as bytes."""
    moved = image.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return moved.to(dtype, memory_format=torch.contiguous_format).div_(255)


def pinned_for(device: torch.device, pixels: np.ndarray) -> Tensor:
    """Pixels as a tensor that a GPU copies without making the host wait for all it was told before."""
    tensor = torch.from_numpy(pixels)
    return tensor.pin_memory() if device.type == "cuda" else tensor


class Streaming(Protocol):
    """What streams need of a method."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All streams it ever asks for."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Its phases, which name the streams they read."""


@dataclass(frozen=True, slots=True)
class RawBatch:
    """This rank's part of a batch as it lies in the cache: images [n, H, W, 3] and labels [n, H, W], uint8."""

    image: Tensor
    label: Tensor
    index: Tensor

    def pinned(self) -> "RawBatch":
        """The same in memory from which a GPU copies without making the host wait; what is on it already stays."""
        return RawBatch(*(part if part.is_cuda else part.pin_memory() for part in (self.image, self.label, self.index)))

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Move to the device as bytes, and become floating and channel-first there."""
        image = on_device(self.image, device, dtype)
        label = self.label.to(device, non_blocking=True).long()
        return Batch(image, label, self.index.to(device, non_blocking=True))


class StreamReader:
    """Reads one stream's batches from the cache, or from a copy of it on the device."""

    def __init__(
        self,
        stream: Stream,
        cache: CachedSplit,
        pool: Sequence[int],
        *,
        view: View,
        seed: int,
        pixels: Pixels | None = None,
    ) -> None:
        if len(pool) < stream.batch:
            raise ValueError(
                f"{len(pool)} {stream.pool} images are fewer than the batch of {stream.batch}: use another "
                f"label_fraction, more images, or a smaller {stream.pool}_batch"
            )
        self._stream = stream
        self._names = cache.names
        self._pixels = pixels or HostPixels(cache)
        self._pool = pool
        self._view = view
        self._labels: PoolLabels | None = None
        self._key = key_of(seed, f"order of {stream.name}")
        self._view_key = key_of(seed, f"view of {stream.name}")

    def use_pool_labels(self, labels: PoolLabels) -> None:
        """Show these labels from now on, where the stream asks for such."""
        if self._stream.shows_pool_labels:
            self._labels = labels

    def read(self, step: int) -> RawBatch:
        """This rank's part of the global batch of a step."""
        batch = self._stream.batch
        places = positions_in_pool(self._key, step, batch, len(self._pool))
        part = shard(batch)
        first = step * batch
        index = list(range(first, first + batch))[part]
        pairs = [self._one(self._pool[place], i) for place, i in zip(places[part], index, strict=True)]
        images, labels = zip(*pairs, strict=True)
        return RawBatch(self._pixels.stacked(images), self._pixels.stacked(labels), torch.tensor(index))

    def _one(self, place: int, index: int) -> tuple[Any, Any]:
        image, label = self._pixels.image(place), self._label_of(place)
        return apply_view(image, label, self._view, fold_int(self._view_key, index), self._pixels.mirrored)

    def _label_of(self, place: int) -> Any:
        if self._stream.pool == "labeled":
            return self._pixels.label(place)
        if self._labels is not None:
            return self._pixels.label_from(self._labels.label(self._names[place]))
        return (
            self._pixels.no_label()
        )  # a method never sees labels of unlabelled images, also where the files are there


def _mirrored(pixels: Any) -> Any:
    return pixels[:, ::-1]


def apply_view(
    image: Any, label: Any, view: View, key: int, mirrored: Callable[[Any], Any] = _mirrored
) -> tuple[Any, Any]:
    """Resize, cut the crop and flip, as drawn from a host key: image [H, W, 3] and label [H, W] alike.

    Both are arrays, or tensors where nothing is resized; `mirrored` exchanges left and right of either.

    Source: DST-CBC, branch dst-cbc: height and width drawn apart, image bilinear, label nearest. Differs: it resizes
    the files themselves, here they were brought to the trained size before.
    """
    if view.resize_height is not None and view.resize_width is not None:  # draws 0, 1, 2 are older than this one
        height = whole_number(fold_int(key, 3), *view.resize_height)
        width = whole_number(fold_int(key, 4), *view.resize_width)
        image = resize_image(image, height=height, width=width)
        label = resize_label(label, height=height, width=width)
    if view.crop_height is not None and view.crop_width is not None:
        top = int(uniform_int(fold_int(key, 0)) * (image.shape[0] - view.crop_height + 1))
        left = int(uniform_int(fold_int(key, 1)) * (image.shape[1] - view.crop_width + 1))
        rows, columns = slice(top, top + view.crop_height), slice(left, left + view.crop_width)
        image, label = image[rows, columns], label[rows, columns]
    if view.flip and uniform_int(fold_int(key, 2)) < 0.5:
        image, label = mirrored(image), mirrored(label)
    return image, label


def whole_number(key: int, low: int, high: int) -> int:
    """A whole number from a host key, each from `low` to `high`, both included, equally likely."""
    return low + int(uniform_int(key) * (high - low + 1))


class Streams:
    """All streams of a method; while a step computes, one thread reads the next."""

    def __init__(
        self,
        method: Streaming,
        cache: CachedSplit,
        pools: Mapping[Pool, Sequence[int]],
        *,
        view: View,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        pixels: Pixels | None = None,
    ) -> None:
        self._method = method
        self._readers = {
            stream.name: StreamReader(stream, cache, pools[stream.pool], view=view, seed=seed, pixels=pixels)
            for stream in method.streams
        }
        self._cache = cache
        self._pool = pools["unlabeled"]
        self._device = device
        self._dtype = dtype
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="streams")
        self._ahead: tuple[int, Future[dict[str, RawBatch]]] | None = None

    def at(self, step: int) -> dict[str, Batch]:
        """The batches of a step, on the device."""
        if self._ahead is not None and self._ahead[0] == step:
            raw = self._ahead[1].result()
        else:
            raw = self._read(step)
        self._ahead = (step + 1, self._thread.submit(self._read, step + 1))
        return {name: batch.to(self._device, self._dtype) for name, batch in raw.items()}

    def whole(self, step: int) -> dict[str, Batch]:
        """The global batches of a step, the parts of all ranks together; what was read ahead stays as it is."""
        with alone():
            raw = self._read(step)
        return {name: batch.to(self._device, self._dtype) for name, batch in raw.items()}

    def use_pool_labels(self, labels: PoolLabels) -> None:
        """Show these labels with unlabelled images from the next step on; what was read ahead without is read again."""
        if self._ahead is not None:
            self._ahead[1].result()
            self._ahead = None
        for reader in self._readers.values():
            reader.use_pool_labels(labels)

    def pool_part(self, alive: Callable[[], None]) -> PoolPart:
        """This rank's share of the unlabelled pool; `alive` is called with every batch of it."""
        mine = self._pool[rank() :: world_size()]
        height, width = self._cache.height, self._cache.width
        at_once = max(1, PIXELS_AT_ONCE // (height * width))

        def batches() -> Iterator[Tensor]:
            for first in range(0, len(mine), at_once):
                alive()
                images = pinned_for(self._device, self._cache.images(mine[first : first + at_once]))
                yield on_device(images, self._device, self._dtype)

        return PoolPart(tuple(self._cache.names[place] for place in mine), batches, height, width)

    def _read(self, step: int) -> dict[str, RawBatch]:
        wanted = phase_at(self._method.phases, step).streams
        readers = {name: reader for name, reader in self._readers.items() if wanted is None or name in wanted}
        batches = {name: reader.read(step) for name, reader in readers.items()}
        return {name: batch.pinned() for name, batch in batches.items()} if self._device.type == "cuda" else batches

    def close(self) -> None:
        """Stop reading ahead."""
        self._thread.shutdown(wait=True, cancel_futures=True)
