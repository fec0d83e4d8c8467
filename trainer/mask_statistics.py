"""How complex a mixing mask is, and how much of it follows the labels: counts on one mask and one label map.

Knows neither torch nor where masks and labels come from. Neighbours are the 4-neighbours everywhere: a pixel and the
next one to the right, a pixel and the one below.
"""

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.data.folders import IGNORE

LabelMap = NDArray[np.uint8]
BoolMap = NDArray[np.bool_]

MIN_OBJECT_PIXELS = 16
"""Smaller connected parts of a label map are not counted as objects: a block of 4 x 4 pixels, about what annotators'
slips and scaling leave. Our choice."""


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """What one mask M measures on one image of H x W pixels; a share of nothing is nan.

    Attributes:
        area_share: mean of M, the share of pixels that keep image a.
        num_parts: 4-connected parts of M plus those of its complement.
        edge_length: |E| / (H W), E the pairs of neighbours of which M keeps one: edge pixels per pixel, in [0, 2).
        artificial_edge_share: |pairs of E_v with one label| / |E_v|, E_v the pairs of E without an ignored pixel: the
            share of mask edges that lie on no border of the label map M was drawn from. 1 - it is the correctness.
        ignored_edge_share: 1 - |E_v| / |E|, the share of mask edges left out of the share above.
        cut_object_share: |objects with pixels inside and outside M| / |objects| (`find_objects`).
    """

    area_share: float
    num_parts: int
    edge_length: float
    artificial_edge_share: float
    ignored_edge_share: float
    cut_object_share: float


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The connected parts of a label map.

    `part` [H, W] int64: 0 where ignored, else the part's number from 1 on; `sizes` [K] pixels of parts 1..K;
    `is_object` [K] bool: large enough to be counted.
    """

    part: NDArray[np.int64]
    sizes: NDArray[np.int64]
    is_object: BoolMap


@dataclass(frozen=True, slots=True)
class MeasuredMask:
    """One mask on every image. `family` says what it shares a line with; `block_count` where it always has the same."""

    name: str
    family: str
    block_count: int | None
    images: tuple[MaskStatistics, ...]


@dataclass(frozen=True, slots=True)
class MaskSurvey:
    """Masks measured on the same images of a dataset at training size; `left_out` names masks that have no edges."""

    dataset: str
    split: str
    height: int
    width: int
    seed: int
    masks: tuple[MeasuredMask, ...]
    left_out: tuple[str, ...]

    @property
    def num_images(self) -> int:
        """How many images every mask was measured on."""
        return len(self.masks[0].images)


def mask_statistics(mask: BoolMap, label: LabelMap, objects: Objects) -> MaskStatistics:
    """Measure one mask.

    Args:
        mask: [H, W] bool, True keeps image a.
        label: [H, W] uint8, the label map of image a; IGNORE counts neither as a label nor as an object.
        objects: what `find_objects` gives for the label map.
    Raises: ValueError where the shapes differ.
    Source: none; the statistics that docs/methods.md 9.7 asks for, defined at MaskStatistics.
    """
    if mask.shape != label.shape or mask.ndim != 2:
        raise ValueError(f"mask {mask.shape} and label {label.shape}: one shape [H, W] is wanted")
    here, there = _neighbours(label)
    is_edge = np.not_equal(*_neighbours(mask))
    is_judged = is_edge & (here != IGNORE) & (there != IGNORE)
    num_edges, num_judged = int(is_edge.sum()), int(is_judged.sum())
    return MaskStatistics(
        area_share=float(mask.mean()),
        num_parts=int(ndimage.label(mask)[1]) + int(ndimage.label(~mask)[1]),
        edge_length=num_edges / mask.size,
        artificial_edge_share=_share(int((is_judged & (here == there)).sum()), num_judged),
        ignored_edge_share=_share(num_edges - num_judged, num_edges),
        cut_object_share=_share(_num_cut(mask, objects), int(objects.is_object.sum())),
    )


def find_objects(label: LabelMap, *, min_pixels: int = MIN_OBJECT_PIXELS) -> Objects:
    """The 4-connected parts of equal label, of which those of at least `min_pixels` are objects; ignored pixels none.

    What a person calls two objects is one here where both are of one class and touch.
    """
    part, count = np.zeros(label.shape, np.int64), 0
    for value in np.unique(label[label != IGNORE]):
        found, num_found = ndimage.label(label == value)
        part = np.where(found > 0, found + count, part)
        count += int(num_found)
    sizes = np.bincount(part.ravel(), minlength=count + 1)[1:]
    return Objects(part, sizes, sizes >= min_pixels)


def without_ignored(label: LabelMap) -> LabelMap:
    """Give every ignored pixel the label of its nearest labelled one, as a teacher, who ignores nothing, might.

    Nearest by Euclidean distance; which of several is left to scipy. A map of ignored pixels only becomes class 0.
    """
    ignored = label == IGNORE
    if ignored.all():
        return np.zeros_like(label)
    nearest: Any = ndimage.distance_transform_edt(ignored, return_distances=False, return_indices=True)
    filled: LabelMap = label[tuple(nearest)]
    return filled


def _neighbours(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both ends of every pair of neighbours: [P] each, P = H (W - 1) + (H - 1) W."""
    here = np.concatenate([values[:, :-1].ravel(), values[:-1].ravel()])
    there = np.concatenate([values[:, 1:].ravel(), values[1:].ravel()])
    return here, there


def _num_cut(mask: BoolMap, objects: Objects) -> int:
    inside = np.bincount(objects.part[mask], minlength=len(objects.sizes) + 1)[1:]
    return int((objects.is_object & (inside > 0) & (inside < objects.sizes)).sum())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else nan
