"""Where a stream takes its pixels from: the mapped cache on the host, or a copy of all of it on the device."""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trainer.data.cache import CachedSplit
from trainer.errors import SetupError
from trainer.losses import IGNORE_INDEX

_AT_ONCE = 64
"""Images that travel to the device together while it is filled."""


class Pixels(Protocol):
    """Images [H, W, 3] and label maps [H, W], uint8, by their place in a split: arrays or tensors, both can be cut."""

    def image(self, place: int) -> Any:
        """One image."""

    def label(self, place: int) -> Any:
        """One label map, as it lies in the cache."""

    def no_label(self) -> Any:
        """A label map that says nothing: full of IGNORE_INDEX."""

    def label_from(self, label: np.ndarray) -> Any:
        """A label map from elsewhere."""

    def mirrored(self, pixels: Any) -> Any:
        """Pixels with left and right exchanged."""

    def stacked(self, pixels: Sequence[Any]) -> Tensor:
        """All of them as one tensor."""


class HostPixels:
    """The memory-mapped cache: nothing is read before it is wanted."""

    def __init__(self, split: CachedSplit) -> None:
        self._split = split

    def image(self, place: int) -> np.ndarray:
        """A read-only view of the mapped file."""
        return self._split.image(place)

    def label(self, place: int) -> np.ndarray:
        """A read-only view of the mapped file."""
        return self._split.label(place)

    def no_label(self) -> np.ndarray:
        """Made anew."""
        return np.full((self._split.height, self._split.width), IGNORE_INDEX, dtype=np.uint8)

    def label_from(self, label: np.ndarray) -> np.ndarray:
        """As it is."""
        return label

    def mirrored(self, pixels: np.ndarray) -> np.ndarray:
        """A view."""
        return pixels[:, ::-1]

    def stacked(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """A copy on the host."""
        return torch.from_numpy(np.stack(pixels))


class DevicePixels:
    """Every image and label of a split as bytes on the device: a batch is put together there, the host moves nothing.

    Raises: SetupError where the device has no room for it.
    """

    def __init__(self, split: CachedSplit, device: torch.device) -> None:
        needed, free = bytes_of(split), free_bytes(device)
        if needed > free:
            raise SetupError(
                f"{len(split)} training images of {split.height}x{split.width} take {needed / 2**30:.1f} GiB on "
                f"{device}, which has {free / 2**30:.1f} GiB free: use --images-on-device auto or never"
            )
        self._images = _filled((len(split), split.height, split.width, 3), split.images, device)
        self._labels = _filled((len(split), split.height, split.width), split.labels, device)

    def image(self, place: int) -> Tensor:
        """A view on the device."""
        return self._images[place]

    def label(self, place: int) -> Tensor:
        """A view on the device."""
        return self._labels[place]

    def no_label(self) -> Tensor:
        """Filled on the device."""
        return torch.full_like(self._labels[0], IGNORE_INDEX)

    def label_from(self, label: np.ndarray) -> Tensor:
        """Moved there as bytes."""
        return _moved(torch.from_numpy(label.copy()), self._labels.device)

    def mirrored(self, pixels: Tensor) -> Tensor:
        """A copy on the device."""
        return pixels.flip(1)

    def stacked(self, pixels: Sequence[Tensor]) -> Tensor:
        """A copy on the device."""
        return torch.stack(list(pixels))


def bytes_of(split: CachedSplit) -> int:
    """What all images and labels of a split take."""
    return len(split) * split.height * split.width * 4


def free_bytes(device: torch.device) -> int:
    """What a device has left; of the CPU, the host's free memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _filled(shape: tuple[int, ...], read: Any, device: torch.device) -> Tensor:
    whole = torch.empty(shape, dtype=torch.uint8, device=device)
    for first in range(0, shape[0], _AT_ONCE):
        places = range(first, min(first + _AT_ONCE, shape[0]))
        whole[first : places.stop] = _moved(torch.from_numpy(read(places)), device)
    return whole


def _moved(pixels: Tensor, device: torch.device) -> Tensor:
    ready = pixels.pin_memory() if device.type == "cuda" else pixels
    return ready.to(device, non_blocking=True)
