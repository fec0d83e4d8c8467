"""What `preview masks --stats` measures: every mask of a table and every named one, on true labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from experiments.table import Table
from orchestrator.previewing import mask_specs
from trainer.build import build_mask
from trainer.data.cache import cache_folder
from trainer.data.opening import open_wanted
from trainer.data.published import Wanted
from trainer.mask_statistics import (
    LabelMap,
    MaskStatistics,
    MaskSurvey,
    MeasuredMask,
    find_objects,
    mask_statistics,
    without_ignored,
)
from trainer.methods.masks import MaskFn
from trainer.randomness import key_of, permutation, sample_keys
from trainer.spec import MIX_NAMES, ComplexMask, Mask


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mask to measure. `family` is shared by what a line joins; `block_count` is set where there is just one."""

    name: str
    family: str
    mask: Mask

    @property
    def block_count(self) -> int | None:
        """The count of a block mask that never draws another."""
        counts = self.mask.block_counts if isinstance(self.mask, ComplexMask) else ()
        return counts[0] if len(counts) == 1 else None


def survey_masks(table: Table, *, data: str | Path, cache: str | None, num_images: int, step: int) -> MaskSurvey:
    """Measure every mask on the same labelled training images, drawn by the first seed of the table.

    Image k gets the masks of step `step` + k, so that block counts vary as they do in training. A mask is drawn from
    the true label map, ignored pixels filled from the nearest labelled one: what a teacher without mistakes would give.
    Returns: as many images as there are where `num_images` asks for more.
    """
    spec = table.cells()[0].spec
    dataset = spec.dataset
    images = open_wanted(Wanted(dataset, dataset.train_split), data, cache_folder(cache))
    labeled = np.flatnonzero(images.has_label)
    chosen = labeled[permutation(key_of(spec.seed, "mask_statistics"), len(labeled))[:num_images].numpy()]
    candidates, left_out = candidates_of(mask_specs(table))
    masks = [build_mask(candidate.mask, len(images.class_names)) for candidate in candidates]
    measured = [
        measure(masks, images.label(int(place)), key_of(spec.seed, "mix_mask", step + number))
        for number, place in enumerate(chosen)
    ]
    return MaskSurvey(
        dataset=getattr(dataset, "name", dataset.kind),
        split=dataset.train_split,
        height=images.height,
        width=images.width,
        seed=spec.seed,
        masks=tuple(
            MeasuredMask(candidate.name, candidate.family, candidate.block_count, tuple(of_images))
            for candidate, of_images in zip(candidates, zip(*measured, strict=True), strict=True)
        ),
        left_out=left_out,
    )


def measure(masks: Sequence[MaskFn], label: LabelMap, batch_key: int) -> list[MaskStatistics]:
    """Draw each mask for one label map [H, W], as for the first image of a batch, and measure it."""
    class_map = torch.from_numpy(without_ignored(label)).long().unsqueeze(0)
    keys, objects = sample_keys(batch_key, torch.zeros(1, dtype=torch.int64)), find_objects(label)
    drawn = (mask(class_map, keys, batch_key)[0, 0].bool().numpy() for mask in masks)
    return [mask_statistics(mask, label, objects) for mask in drawn]


def candidates_of(specs: Mapping[str, Mask]) -> tuple[list[Candidate], tuple[str, ...]]:
    """Each mask once, block masks also with each of their counts alone; and the names of those that are no masks."""
    masks = {name: mask for name, mask in specs.items() if mask.keeps_whole_pixels}
    for name, mask in list(masks.items()):
        if isinstance(mask, ComplexMask) and len(mask.block_counts) > 1:
            for count in sorted(mask.block_counts):
                masks[f"{name} p={count}"] = mask.model_copy(update={"block_counts": (count,)})
    once = {mask: name for name, mask in reversed(masks.items())}  # of equal masks the first name stays
    found = [Candidate(name, family_of(mask), mask) for name, mask in masks.items() if once[mask] == name]
    return found, tuple(name for name in specs if name not in masks)


def family_of(mask: Mask) -> str:
    """What a legend says of a mask: its method, for block masks with the reading."""
    if not isinstance(mask, ComplexMask):
        return MIX_NAMES[mask.kind]
    grid = {"per_side": "p x p blocks", "in_total": "p blocks in all"}[mask.grid]
    classes = {"of_all": "half of all classes", "of_present": "half of those present"}[mask.classes]
    rounding = "" if mask.rounding == "floor" else f", rounding {mask.rounding}"
    return f"{MIX_NAMES[mask.kind]}: {grid}, {classes}{rounding}"
