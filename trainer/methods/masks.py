"""Mixing masks: pure, batched, on the device of the class map.

Every mask function takes (class_map, keys, batch_key) and gives mix_mask [N, 1, H, W] float32 in {0, 1}; 1 keeps
image a. class_map is [N, H, W] int64, the teacher's arg-max for image a; keys [N] int64, one per global sample and
step; batch_key one host integer per step, for draws that the whole global batch shares. They are the only source of
every draw. Source numbers (9.1 …) are sections of docs/methods.md.
"""

from collections.abc import Callable
from functools import lru_cache
from math import isqrt, prod

import numpy as np
import torch
from torch import Tensor

from trainer.randomness import fold, fold_int, fold_prepared, normal, prepared, uniform, uniform_int
from trainer.spec import BlendMask, BoxMask, ClassMask, ComplexMask, CowMask

MaskFn = Callable[[Tensor, Tensor, int], Tensor]
_LARGEST = torch.iinfo(torch.int64).max
# What is folded into a sample's key for draws beside those of the classes, which take 0, 1, 2, …
_COUNT_DRAW, _COIN = -1, -2


def box_mask(class_map: Tensor, keys: Tensor, batch_key: int, *, spec: BoxMask) -> Tensor:
    """Keep what lies outside one box that covers half of the image.

    Source: law "french": French et al. 2020, cutmix-semisup-seg mask_gen.py: height share log-uniform in [0.5, 1],
    width share 0.5 / height share, sizes and place rounded. Law "classmix": ClassMix transformmasks.py: width uniform
    in [W/2, W], height round(HW/2 / width), place uniform. Differs: drawn from keys, not from the operating system.
    """
    _, height, width = class_map.shape
    draws = uniform(fold(keys[:, None], torch.arange(3, device=keys.device)))
    if spec.law == "french":
        share = torch.exp(draws[:, 0] * torch.log(torch.tensor(0.5, dtype=torch.float64)))
        box_height, box_width = (share * height).round(), (0.5 / share * width).round()
        top = ((height - box_height) * draws[:, 1]).round()
        left = ((width - box_width) * draws[:, 2]).round()
    else:
        box_width = width // 2 + (draws[:, 0] * (width - width // 2 + 1)).floor()
        box_height = (height * width / 2 / box_width).round().clamp(max=height)
        top = (draws[:, 1] * (height - box_height + 1)).floor()
        left = (draws[:, 2] * (width - box_width + 1)).floor()
    in_rows = _between(torch.arange(height, device=keys.device), top, box_height)
    in_columns = _between(torch.arange(width, device=keys.device), left, box_width)
    return (~(in_rows[:, :, None] & in_columns[:, None, :])).unsqueeze(1).float()


def _between(position: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return (position >= start[:, None]) & (position < (start + length)[:, None])


def class_mask(class_map: Tensor, keys: Tensor, batch_key: int, *, spec: ClassMask, num_classes: int) -> Tensor:
    """Keep the pixels of half of the classes present in each image.

    Returns: as the module says; an image with one class keeps none of it (half of one, rounded down).
    Raises: ValueError if class_map is not three-dimensional.
    Source: ClassMix, Olsson et al. 2020, arXiv:2007.07936, transformmasks.generate_class_mask: floor(K / 2) of the K
    present classes without replacement. Differs: drawn by rank of a hash per class, so that no loop is needed.
    """
    if class_map.dim() != 3:
        raise ValueError(f"class_map has shape {tuple(class_map.shape)}; [N, H, W] is wanted")
    slot = class_map.flatten(1)
    present = torch.zeros(len(slot), num_classes, dtype=torch.bool, device=slot.device).scatter_(1, slot, True)
    chosen = _choose_half(keys, present.unsqueeze(1), "floor").squeeze(1)
    return chosen.float().gather(1, slot).view_as(class_map).unsqueeze(1)


def cow_mask(class_map: Tensor, keys: Tensor, batch_key: int, *, spec: CowMask) -> Tensor:
    """Keep where smooth noise exceeds its quantile: irregular patches covering `proportion` of the image.

    Source: CowMix, French, Oliver and Salimans 2020, arXiv:2003.12022 (milking_cowmask, masking/cow_mask.py): sigma
    log-uniform, threshold mean + sqrt(2) erfinv(.) std. ClassMix's trainer has sigma in [8, 32], proportion 0.5.
    Differs: the Gaussian is normalised at the border instead of padded, and 1 marks what exceeds.
    """
    _, height, width = class_map.shape
    pixel = torch.arange(height * width, device=keys.device).view(height, width)
    noise = normal(fold(fold(keys, torch.full_like(keys, 1))[:, None, None], pixel))
    draws = uniform(fold(keys[:, None], torch.arange(2, 4, device=keys.device))).float()
    log_ratio = torch.log(torch.tensor(spec.sigma_max / spec.sigma_min))
    sigma = spec.sigma_min * torch.exp(draws[:, 0] * log_ratio)
    smooth = _gaussian_matrix(height, sigma) @ noise @ _gaussian_matrix(width, sigma).transpose(1, 2)
    proportion = spec.proportion_min + draws[:, 1] * (spec.proportion_max - spec.proportion_min)
    mean, std = smooth.mean(dim=(1, 2)), smooth.std(dim=(1, 2))
    threshold = mean + 2**0.5 * torch.erfinv(1 - 2 * proportion) * std
    return (smooth > threshold[:, None, None]).unsqueeze(1).float()


def _gaussian_matrix(length: int, sigma: Tensor) -> Tensor:
    position = torch.arange(length, device=sigma.device, dtype=torch.float32)
    squared = (position[:, None] - position[None, :]).square()
    return torch.softmax(-squared / (2 * sigma[:, None, None].square()), dim=2)


def complex_mask(class_map: Tensor, keys: Tensor, batch_key: int, *, spec: ComplexMask, num_classes: int) -> Tensor:
    """Keep, in each block of a grid, the pixels of half of the classes.

    The block count is drawn once per step for the whole batch, or for each image; classes per block and image. No
    matter which classes are present: with classes "of_all" a chosen class may be absent from its block.

    Source: ComplexMix, Chen et al. 2021, arXiv:2101.10156, section 3.1 (literal: p x p blocks, C/2 of all C classes)
    and section 1 (other reading: p squares in all, half of the predicted classes). Open points: docs/methods.md 9.7.
    """
    if spec.count_scope == "batch":
        drawn = int(uniform_int(fold_int(batch_key, 0)) * len(spec.block_counts))
        return _mask_of_grid(class_map, keys, spec.block_counts[drawn], spec, num_classes)
    choice = (uniform(fold(keys, torch.full_like(keys, _COUNT_DRAW))) * len(spec.block_counts)).long()
    masks = [_mask_of_grid(class_map, keys, count, spec, num_classes) for count in spec.block_counts]
    return torch.stack(masks, dim=1)[torch.arange(len(keys), device=keys.device), choice]


def _mask_of_grid(class_map: Tensor, keys: Tensor, count: int, spec: ComplexMask, num_classes: int) -> Tensor:
    rows, columns = grid_shape(count, spec.grid)
    table = (len(keys), rows * columns, num_classes)
    slot = (_first_slots(class_map.shape, rows, columns, num_classes, class_map.device) + class_map).view(-1)
    if spec.classes == "of_present":
        present = torch.zeros(prod(table), dtype=torch.bool, device=slot.device).index_fill_(0, slot, True)
        chosen = _choose_half(keys, present.view(table), spec.rounding)
    else:
        chosen = _choose_half_of_all(keys, *table[1:], spec.rounding)
    return chosen.view(-1).float().index_select(0, slot).view_as(class_map).unsqueeze(1)


def grid_shape(count: int, grid: str) -> tuple[int, int]:
    """Rows and columns of blocks: (p, p), or for "in_total" the factors of p closest to a square, rows the fewer.

    Source: docs/methods.md 9.7 row 1: 4, 16, 64, 128 blocks in all are 2x2, 4x4, 8x8 and 8x16.
    """
    if grid == "per_side":
        return count, count
    rows = next(rows for rows in range(isqrt(count), 0, -1) if count % rows == 0)
    return rows, count // rows


def block_index(height: int, width: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """The block of each pixel, [H, W] int64: edges at k H / rows and k W / columns, rounded half up."""
    row = _block_of(height, rows, device)
    return row[:, None] * columns + _block_of(width, columns, device)[None, :]


@lru_cache(maxsize=8)
def _first_slots(shape: torch.Size, rows: int, columns: int, num_classes: int, device: torch.device) -> Tensor:
    """Where, in a table [N, blocks, C], the classes of each pixel's block begin: [N, H, W], the same at every step."""
    block = block_index(shape[1], shape[2], rows, columns, device)
    image = torch.arange(shape[0], device=device).view(-1, 1, 1)
    return (image * rows * columns + block) * num_classes


def _block_of(length: int, blocks: int, device: torch.device) -> Tensor:
    # The last k whose edge floor(k length / blocks + 1/2) is at most the position, in whole numbers.
    position = torch.arange(length, device=device)
    return (blocks * (2 * position + 1) - 1).div(2 * length, rounding_mode="floor")


def blend_share(class_map: Tensor, keys: Tensor, batch_key: int, *, spec: BlendMask) -> Tensor:
    """One share in [0, 1] for all pixels of an image: how much of image a is blended into image b.

    Returns: [N, 1, H, W] float32, constant over each image: the one function here whose values are not 0 and 1 alone.
    Source: ICT, Verma et al. 2019, arXiv:1903.03825: Beta(alpha, alpha); alpha 0.1 in French et al.'s code. Johnk's
    method (1964): of pairs U^(1/alpha), V^(1/alpha) the first with sum at most 1, its share the first's of the sum.
    Differs: of 64 pairs computed from the key, where a generator would go on; below alpha 2 none fits once in 1e5.
    """
    draws = uniform(fold(keys[:, None, None], torch.arange(128, device=keys.device).view(64, 2)))
    logs = torch.log(draws.clamp(min=2.0**-53)) / spec.alpha
    fits = torch.logsumexp(logs, dim=2) <= 0
    first = fits.long().argmax(dim=1)
    pair = logs[torch.arange(len(keys), device=keys.device), first]
    share = torch.sigmoid(pair[:, 0] - pair[:, 1]).float()
    return share.view(-1, 1, 1, 1).expand(-1, 1, *class_map.shape[1:])


def _choose_half(keys: Tensor, candidates: Tensor, rounding: str) -> Tensor:
    """Half of the candidate classes of each block, those of smallest hash: candidates and choice [N, blocks, C]."""
    score = _scores(keys, *candidates.shape[1:]).masked_fill_(~candidates, _LARGEST)
    count = candidates.sum(dim=2, keepdim=True)
    half = (count + _extra(rounding, keys, candidates.shape[1])).div(2, rounding_mode="floor")
    limit = _sorted(score).gather(2, (half - 1).clamp(min=0))
    return (score <= limit) & candidates & (half > 0)


def _choose_half_of_all(keys: Tensor, num_blocks: int, num_classes: int, rounding: str) -> Tensor:
    """`_choose_half` where every class is a candidate in every block."""
    score = _scores(keys, num_blocks, num_classes)
    half = (num_classes + _extra(rounding, keys, num_blocks)) // 2
    if isinstance(half, int):
        return score <= _sorted(score)[..., half - 1, None] if half else torch.zeros_like(score, dtype=torch.bool)
    return (score <= _sorted(score).gather(2, (half - 1).clamp(min=0))) & (half > 0)


def _scores(keys: Tensor, num_blocks: int, num_classes: int) -> Tensor:
    """The hash of every class in every block of every image: [N, blocks, C] int64."""
    return fold_prepared(keys[:, None, None], _prepared_slots(num_blocks, num_classes, keys.device))


@lru_cache(maxsize=16)
def _prepared_slots(num_blocks: int, num_classes: int, device: torch.device) -> Tensor:
    """One number for each class in each block, ready to be folded: [blocks, C] int64, the same at every step."""
    slot = torch.arange(num_blocks * num_classes, device=device).view(num_blocks, num_classes)
    return prepared(slot)


def _sorted(score: Tensor) -> Tensor:
    """Each row in order. On the CPU by NumPy: torch's own sort carries places along and takes ten times as long."""
    if score.device.type == "cpu":
        return torch.from_numpy(np.sort(score.numpy()))
    return score.sort(dim=-1).values


def _extra(rounding: str, keys: Tensor, num_blocks: int) -> Tensor | int:
    """What is added before halving: 0 rounds down, 1 rounds up, a coin for each block and image does either."""
    if rounding != "random":
        return int(rounding == "ceil")
    block = torch.arange(num_blocks, device=keys.device)[None, :, None]
    return (uniform(fold(fold(keys, torch.full_like(keys, _COIN))[:, None, None], block)) < 0.5).long()
