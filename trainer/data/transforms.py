"""Colour jitter and blur on whole batches, on the device, from drawn numbers and nothing else."""

from collections.abc import Callable
from functools import partial
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from trainer.randomness import fold_int, uniform_int
from trainer.spec import StrongAugmentation

# Beyond this many sigmas a Gaussian is zero in float32.
_SIGMAS = 14.0


def strong_augmentation(image: Tensor, key: int, spec: StrongAugmentation) -> Tensor:
    """Jitter colours, then blur, each with its probability; one draw for the whole global batch.

    Args:
        image: [N, 3, H, W] floating, RGB in [0, 1].
        key: host key of this step.
        spec: probabilities and ranges.
    Returns: the same shape and range.
    Source: ClassMix, transformsgpu.py: jitter with probability 0.8 (its code asks for a draw above 0.2) by factors
    within 0.25, blur with probability 0.5 and sigma uniform in [0.15, 1.15] over about a tenth of each side.
    Differs: torchvision's colour functions stand for kornia 0.3's, whose brightness adds instead of multiplying.
    """
    draws = [uniform_int(fold_int(key, place)) for place in range(9)]
    if draws[0] < spec.jitter_probability:
        image = jitter_colors(image, draws[1:6], spec.jitter_strength)
    if draws[6] < spec.blur_probability:
        sigma = spec.blur_sigma_min + draws[7] * (spec.blur_sigma_max - spec.blur_sigma_min)
        image = gaussian_blur(image, sigma)
    return image


def jitter_colors(image: Tensor, draws: list[float], strength: float) -> Tensor:
    """Change brightness, contrast, saturation and hue, in a drawn order.

    Args:
        image: [N, 3, H, W] floating, RGB in [0, 1].
        draws: five numbers in [0, 1): one per change and one for their order.
        strength: factors lie within 1 +- strength, the hue shift within +- strength of the circle.
    """
    from torchvision.transforms.v2 import functional as color  # costs seconds to import: only when something jitters

    spread = [strength * (2 * draw - 1) for draw in draws[:4]]
    changes: list[Callable[[Tensor], Tensor]] = [
        partial(color.adjust_brightness, brightness_factor=1 + spread[0]),
        partial(color.adjust_contrast, contrast_factor=1 + spread[1]),
        partial(color.adjust_saturation, saturation_factor=1 + spread[2]),
        partial(color.adjust_hue, hue_factor=spread[3]),
    ]
    for place in _order(draws[4]):
        image = changes[place](image)
    return image


def _order(draw: float) -> list[int]:
    """The permutation of four things whose number is floor(24 draw)."""
    number, places = int(draw * 24), [0, 1, 2, 3]
    order = []
    for left in (4, 3, 2, 1):
        number, place = divmod(number, left)
        order.append(places.pop(place))
    return order


def blur_kernel_size(side: int) -> int:
    """The odd number near a tenth of a side: 51 of 512, 103 of 1024 (ClassMix, transformsgpu.gaussian_blur)."""
    tenth = ceil(0.1 * side)
    return tenth if tenth % 2 else tenth - 1


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur [N, C, H, W] by a Gaussian of `sigma` pixels, one axis after the other, reflecting at the border.

    torchvision's function builds the two-dimensional kernel, 51 x 103 at the paper's size: 34 times the work of two
    one-dimensional ones. Equality with it is tested.
    """
    for dimension in (2, 3):
        image = _blur_along(image, sigma, dimension)
    return image


def _blur_along(image: Tensor, sigma: float, dimension: int) -> Tensor:
    radius = min(blur_kernel_size(image.shape[dimension]) // 2, ceil(_SIGMAS * sigma))
    offset = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    weight = torch.exp(-offset.square() / (2 * sigma**2))
    weight = weight / weight.sum()
    shape = [1, 1, 1, 1]
    shape[dimension] = -1
    padding = [0, 0, radius, radius] if dimension == 2 else [radius, radius, 0, 0]
    channels = image.shape[1]
    kernel = weight.view(shape).expand(channels, 1, -1, -1)
    return functional.conv2d(functional.pad(image, padding, mode="reflect"), kernel, groups=channels)
