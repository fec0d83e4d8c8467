"""How images and label maps are brought to another size. Knows neither files nor datasets; loads no torch, no ray."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.uint8]
ImageFilter = Literal["bilinear", "box", "none"]
LabelFilter = Literal["nearest", "majority", "none"]
Resize = Callable[[Array, int, int], Array]
"""Pixels, new height and new width to new pixels."""


@dataclass(frozen=True, slots=True)
class Filters:
    """How a split is resized; "none" takes files of one size as they are and refuses others."""

    image: ImageFilter = "bilinear"
    label: LabelFilter = "nearest"

    @property
    def rules(self) -> str:
        """The rules in words, as they enter the key of a cache: changed words build every cache again."""
        return f"image: {_IMAGE_RULES[self.image]}; label: {_LABEL_RULES[self.label]}"

    @property
    def suffix(self) -> str:
        """What tells the file of a cache from that of the default filters."""
        return "" if self == Filters() else "-full" if self == AS_STORED else f"-{self.image}-{self.label}"


AS_STORED = Filters("none", "none")
"""Full size: nothing is resized."""


def resize_image(image: Array, *, height: int, width: int, rule: ImageFilter = "bilinear") -> Array:
    """Resize an image [H, W, 3] uint8, in 8 bits.

    "bilinear": PIL widens the triangle filter when it makes an image smaller, so that every pixel of the original
    counts. "box": the mean of the pixels below each new one.
    Source: bilinear is ClassMix's loader, SciPy 1.2's imresize, which is this very function (docs/methods.md, card
    ClassMix 8.2); box is French et al., cutmix-semisup-seg, convert_cityscapes.py. Differs: they drop the fraction of
    the mean of 2x2 pixels where PIL rounds after rows and after columns, so ours is up to one grey level lighter; at
    ratios other than whole numbers, where theirs fails, pixels below two new ones count for both by their share.
    """
    return _IMAGE_FILTERS[rule](image, height, width)


def resize_label(label: Array, *, height: int, width: int, rule: LabelFilter = "nearest") -> Array:
    """Resize a map of stored values [H, W] uint8; no value is made up.

    "nearest": each new pixel takes the value nearest to its centre (ClassMix). "majority": see `majority`.
    """
    return _LABEL_FILTERS[rule](label, height, width)


def majority(label: Array, height: int, width: int) -> Array:
    """The most frequent value below each new pixel; of equally frequent ones the smallest.

    Pixel k of h lies over the pixels from round(k H / h) to round((k + 1) H / h), halves rounded up, and over one pixel
    where these are equal (an enlarged map). Values vote as they are stored: two that both count nowhere vote apart, so
    a class may win over them that would lose to their sum.

    Args:
        label: [H, W] uint8, values as stored, not class indices.
    Returns: [height, width] uint8.
    Source: French et al., cutmix-semisup-seg, convert_cityscapes.py: arg-max over the counts of stored label ids in
    each 2x2 block, as published there. Own choice: the edges where a side is no multiple of the new one.
    """
    rows, columns = _first_of_cells(label.shape[0], height), _first_of_cells(label.shape[1], width)
    most = np.zeros((height, width), np.int64)
    winner = np.zeros((height, width), np.uint8)
    for value in np.unique(label):  # ascending, and a later value must have more: ties go to the smallest
        by_row = np.add.reduceat(label == value, rows, axis=0, dtype=np.int64)
        count = np.add.reduceat(by_row, columns, axis=1)
        winner[count > most] = value
        most = np.maximum(most, count)
    return winner


def _first_of_cells(length: int, cells: int) -> NDArray[np.int64]:
    """Where each cell begins; `reduceat` takes one pixel where two begin at the same place."""
    edges = (2 * np.arange(cells, dtype=np.int64) * length + cells) // (2 * cells)
    return np.minimum(edges, length - 1)


def _by_pil(resampling: Image.Resampling) -> Resize:
    def resize(pixels: Array, height: int, width: int) -> Array:
        return np.asarray(Image.fromarray(pixels).resize((width, height), resampling))

    return resize


def _as_stored(pixels: Array, height: int, width: int) -> Array:
    assert pixels.shape[:2] == (height, width), "whoever reads refuses other sizes"
    return pixels


_IMAGE_FILTERS: Mapping[ImageFilter, Resize] = {
    "bilinear": _by_pil(Image.Resampling.BILINEAR),
    "box": _by_pil(Image.Resampling.BOX),
    "none": _as_stored,
}
_LABEL_FILTERS: Mapping[LabelFilter, Resize] = {
    "nearest": _by_pil(Image.Resampling.NEAREST),
    "majority": majority,
    "none": _as_stored,
}
_IMAGE_RULES: Mapping[ImageFilter, str] = {
    "bilinear": "PIL bilinear, antialiased",
    "box": "PIL box",
    "none": "as stored",
}
_LABEL_RULES: Mapping[LabelFilter, str] = {
    "nearest": "PIL nearest",
    "majority": "majority of stored values, smallest of equals",
    "none": "as stored",
}
