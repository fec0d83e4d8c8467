"""Judging a network: one confusion matrix over the set, each image counted once whatever the number of ranks."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.cache import CachedSplit
from trainer.data.streams import PIXELS_AT_ONCE, on_device
from trainer.distributed import global_sum, rank, world_size
from trainer.metrics import confusion_of


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: CachedSplit,
    *,
    device: torch.device,
    dtype: torch.dtype,
    alive: Callable[[], None] = lambda: None,
) -> Tensor:
    """Sum the confusion matrix [C, C] int64 of a network in eval mode over a labelled split and over all ranks.

    Rank r judges images r, r + world size, …: nothing is padded, so nothing counts twice. The network's mode comes
    back as it was. `alive` is called after every batch.
    """
    num_classes = len(images.class_names)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    was_training = network.training
    network.eval()
    for part in _batches(np.flatnonzero(images.has_label)[rank() :: world_size()], images):
        label = torch.from_numpy(images.labels(part)).to(device).long()
        image = on_device(torch.from_numpy(images.images(part)), device, dtype)
        confusion += confusion_of(network(image).argmax(dim=1), label, num_classes)
        alive()
    network.train(was_training)
    return global_sum(confusion)


def _batches(indices: np.ndarray, images: CachedSplit) -> list[np.ndarray]:
    size = max(1, PIXELS_AT_ONCE // (images.height * images.width))
    return [indices[first : first + size] for first in range(0, len(indices), size)]
