"""Intersection over union from one confusion matrix, summed over the set and over ranks."""

import numpy as np
import torch
from torch import Tensor

from trainer.losses import IGNORE_INDEX

_COPIES = 64


def confusion_of(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count pixels by (truth, prediction).

    Args:
        prediction: [N, H, W] int64 in 0..num_classes-1.
        label: [N, H, W] int64, class index or IGNORE_INDEX (not counted).
    Returns: [C, C] int64, rows truth, columns prediction.
    """
    cell = torch.add(prediction, label, alpha=num_classes).flatten()  # ignored pixels have a row of their own, the last
    count = _count_on_gpu if cell.device.type == "cuda" else _count
    return count(cell, (IGNORE_INDEX + 1) * num_classes).view(-1, num_classes)[:num_classes]


def _count(value: Tensor, num_values: int) -> Tensor:
    return torch.bincount(value, minlength=num_values)


def _count_on_gpu(value: Tensor, num_values: int) -> Tensor:
    """How often each value comes, without bincount's question to the device for the largest.

    Neighbouring pixels count in different copies of the table: additions to one place would wait for each other.
    """
    place = torch.arange(len(value), device=value.device).remainder_(_COPIES) * num_values + value
    counts = torch.zeros(_COPIES * num_values, dtype=torch.int64, device=value.device)
    return counts.scatter_add_(0, place, torch.ones_like(value)).view(_COPIES, num_values).sum(0)


def class_iou(confusion: Tensor) -> list[float | None]:
    """Intersection over union of each class, None for a class in neither truth nor prediction."""
    hits = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - hits
    pairs = zip(hits.tolist(), union.tolist(), strict=True)
    return [hit / total if total else None for hit, total in pairs]


def mean_iou(ious: list[float | None]) -> float | None:
    """Mean over the defined classes (an undefined class is left out, not counted as zero); None if there is none."""
    defined = [iou for iou in ious if iou is not None]
    return sum(defined) / len(defined) if defined else None


def most_likely(scores: Tensor) -> Tensor:
    """The class of the highest score at each pixel, the first of equals: [N, C, H, W] to [N, H, W] int64."""
    return highest(scores)[1]


def highest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score at each pixel, and its class, the first of equals.

    Args:
        scores: [N, C, H, W] floating.
    Returns: [N, H, W] of their dtype, and [N, H, W] int64: the same that `scores.max(dim=1)` gives.
    """
    if _can_go_by_planes(scores):
        by_planes = _highest_by_planes(scores.float() if scores.dtype in _SHORT else scores)
        if by_planes is not None:
            return by_planes[0].to(scores.dtype), by_planes[1]
    found = scores.max(dim=1)
    return found.values, found.indices


_SHORT = (torch.bfloat16, torch.float16)
"""What NumPy does not know, or counts slowly; every value of theirs is one of float32."""
_MOST_PLANES = 256


def _can_go_by_planes(scores: Tensor) -> bool:
    """On a processor, where there are numbers behind the tensor and nobody wants a gradient."""
    is_real = type(scores) is Tensor and scores.device.type == "cpu"
    return is_real and scores.shape[1] <= _MOST_PLANES and not (torch.is_grad_enabled() and scores.requires_grad)


def _highest_by_planes(scores: Tensor) -> tuple[Tensor, Tensor] | None:
    """Class by class in NumPy, a third to a seventh of torch's time: that goes through all classes of each pixel.

    None where a score is no number: of those torch takes the first.
    """
    planes = scores.detach().contiguous().numpy()
    best = planes[:, 0].copy()
    is_higher = np.empty(best.shape, np.bool_)
    number, classes = is_higher.view(np.uint8), np.zeros(best.shape, np.uint8)
    for index in range(1, planes.shape[1]):
        np.greater(planes[:, index], best, out=is_higher)
        np.maximum(planes[:, index], best, out=best)
        np.multiply(number, np.uint8(index), out=number)
        np.maximum(number, classes, out=classes)  # classes come in order: the last that was higher counts
    return None if np.isnan(best).any() else (torch.from_numpy(best), torch.from_numpy(classes).long())
