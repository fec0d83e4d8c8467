"""Colours for the classes of a dataset that brings none. Knows no dataset; loads no torch, no ray."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from trainer.data.resizing import Array

Values = NDArray[np.float64]

_GRID: Array = np.stack(np.meshgrid(*[np.arange(0, 256, 17, dtype=np.uint8)] * 3), axis=-1).reshape(-1, 3)
_DARKEST, _PALEST = 0.45, 0.08  # lightness and chroma in OKLab: nothing that passes for black or for grey
# Linear RGB as it is seen without the cones for red, and for green.
# Source: Machado, Oliveira and Fernandes 2009, IEEE TVCG 15(6), their matrices at severity 1.0.
_WITHOUT_CONES = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
)
# Linear sRGB to cone responses, and their cube roots to OKLab. Source: Ottosson 2020, "A perceptual color space for
# image processing".
_TO_CONES = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
             (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
_TO_OKLAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
             (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip


@cache
def distinct_palette(num_classes: int) -> Array:
    """Colours that are easy to tell apart, also without seeing red or green: [num_classes, 3] uint8, always the same.

    Each next colour is the one farthest from those before it and from black, white and grey, as it is for the eyes
    that tell it least from one of them. Ignored pixels are black, stripes and paper grey and white.
    """
    lightness, green_red, blue_yellow = as_seen(_GRID)[0].T
    candidates = _GRID[(lightness >= _DARKEST) & (np.hypot(green_red, blue_yellow) >= _PALEST)]
    seen = as_seen(candidates)
    nearest = np.full(len(candidates), np.inf)
    for taken in ((0, 0, 0), (255, 255, 255), (136, 136, 136)):
        nearest = np.minimum(nearest, _distance(seen, as_seen(np.array([taken], np.uint8))))
    chosen: list[int] = []
    for _ in range(num_classes):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distance(seen, seen[:, chosen[-1:]]))
        nearest[chosen] = -1.0  # colours that are one to some eyes: still none twice
    palette: Array = candidates[chosen]
    palette.setflags(write=False)
    return palette


def as_seen(colors: Array) -> Values:
    """Colours [N, 3] in OKLab, whose distances are those that people see: [3, N, 3], by all cones, no red, no green."""
    linear = (colors / 255.0) ** 2.2
    views = [linear, *(np.clip(linear @ np.array(matrix).T, 0, 1) for matrix in _WITHOUT_CONES)]
    lab: Values = np.cbrt(np.stack(views) @ np.array(_TO_CONES).T) @ np.array(_TO_OKLAB).T
    return lab


def _distance(seen: Values, other: Values) -> Values:
    """How far colours are from one colour, in the eyes that tell them least apart."""
    distance: Values = np.linalg.norm(seen - other, axis=-1).min(axis=0)
    return distance
