"""Judging a network: one confusion matrix over the set, each image counted once whatever the number of ranks."""

from collections.abc import Callable
from itertools import product
from math import ceil, floor

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.cache import CachedSplit
from trainer.data.streams import PIXELS_AT_ONCE, on_device, pinned_for
from trainer.distributed import global_sum, rank, world_size
from trainer.metrics import confusion_of, most_likely

Predict = Callable[[nn.Module, Tensor], Tensor]
"""A network and images [N, 3, H, W] in [0, 1] to the class of every pixel, [N, H, W] int64."""


def predict_whole(network: nn.Module, image: Tensor) -> Tensor:
    """The arg-max of what the network says of whole images."""
    prediction: Tensor = most_likely(network(image))
    return prediction


def predict_sliding(network: nn.Module, image: Tensor, *, window: tuple[int, int], overlap: float) -> Tensor:
    """The arg-max of the mean over windows of what the network says; see `mean_over_windows`."""
    return most_likely(mean_over_windows(lambda part: network(part).softmax(dim=1), image, window, overlap))


def mean_over_windows(
    probs_of: Callable[[Tensor], Tensor], image: Tensor, window: tuple[int, int], overlap: float
) -> Tensor:
    """The mean at each pixel of the probabilities of all windows that show it.

    Args:
        probs_of: [N, 3, h, w] to probabilities [N, C, h, w].
        image: [N, 3, H, W] floating.
        window: height and width; a side longer than the image's is the image's.
        overlap: least share of a window's side that its neighbour shares.
    Returns: probs [N, C, H, W].
    Source: sliding-window evaluation as U2PL's and UniMatch's READMEs report it (docs/methods.md 11). Own choice: an
    even grid, where others keep the stride and push the last window back, so that it overlaps more than the rest.
    """
    sides = [min(side, whole) for side, whole in zip(window, image.shape[-2:], strict=True)]
    tops, lefts = (window_starts(whole, s, overlap) for whole, s in zip(image.shape[-2:], sides, strict=True))
    total: Tensor | None = None
    count = image.new_zeros(image.shape[-2:])
    for top, left in product(tops, lefts):
        place = (..., slice(top, top + sides[0]), slice(left, left + sides[1]))
        probs = probs_of(image[place])
        if total is None:
            total = probs.new_zeros(*probs.shape[:2], *image.shape[-2:])
        total[place] += probs
        count[place] += 1
    assert total is not None, "a side has one window at least"
    return total / count


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin that cover a side: evenly spaced, halves rounded up, first and last flush with the borders.

    Neighbours share at least `overlap` of the window, rounded up to pixels (but never all of it).
    """
    stride = max(1, floor(window * (1 - overlap) + 1e-9))  # 3 x (1 - 1/3) is 2, whatever floating point says
    steps, rest = ceil((length - window) / stride), length - window
    return [(2 * i * rest + steps) // (2 * steps) for i in range(steps + 1)] if steps else [0]


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: CachedSplit,
    *,
    device: torch.device,
    dtype: torch.dtype,
    predict: Predict = predict_whole,
    alive: Callable[[], None] = lambda: None,
) -> Tensor:
    """Sum the confusion matrix [C, C] int64 of a network in eval mode over a labelled split and over all ranks.

    Rank r judges images r, r + world size, …: nothing is padded, so nothing counts twice. The network's mode comes
    back as it was. `predict` decides what it sees of an image at once; `alive` is called after every batch.
    """
    num_classes = len(images.class_names)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    was_training = network.training
    network.eval()
    for part in _batches(np.flatnonzero(images.has_label)[rank() :: world_size()], images):
        label = pinned_for(device, images.labels(part)).to(device, non_blocking=True).long()
        image = on_device(pinned_for(device, images.images(part)), device, dtype)
        confusion += confusion_of(predict(network, image), label, num_classes)
        alive()
    network.train(was_training)
    return global_sum(confusion)


def _batches(indices: np.ndarray, images: CachedSplit) -> list[np.ndarray]:
    size = max(1, PIXELS_AT_ONCE // (images.height * images.width))
    return [indices[first : first + size] for first in range(0, len(indices), size)]
