"""Mixing masks at the paper's size: each beside ClassMix's, and the finest ComplexMix beside a loop over blocks."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from orchestrator.bench.measuring import Call, Figure, Setting, ratio_of, spread_of, take_turns
from orchestrator.bench.plain import block_loop_mask, random_half
from trainer.build import build_mask
from trainer.randomness import key_of, sample_keys
from trainer.spec import BoxMask, ClassMask, ComplexMask, CowMask, Mask

NUM_CLASSES, NUM_IMAGES = 19, 2
BLOCK_COUNTS = (4, 16, 64, 128)
LOOP = "loop over blocks"


def measure_masks(setting: Setting) -> list[Figure]:
    """Seconds of each mask for a batch of two, given the class map."""
    height, width, finest = (32, 64, 8) if setting.size == "small" else (512, 1024, 128)
    class_map = patches(height, width).to(setting.device)
    key = key_of(0, "mix_mask", 0)
    keys = sample_keys(key, torch.arange(NUM_IMAGES, device=setting.device))
    functions = {name: build_mask(spec, NUM_CLASSES) for name, spec in _specs(finest).items()}
    calls = {name: lambda draw=draw: draw(class_map, keys, key) for name, draw in functions.items()}
    seconds = take_turns(calls, setting)
    figures = [
        Figure("masks", name, spread_of(taken), "ClassMix", ratio_of(taken, seconds["ClassMix"]), _target(name, finest))
        for name, taken in seconds.items()
    ]
    return [*figures, _beside_the_loop(f"ComplexMix {finest}", class_map, finest, calls, setting)]


def _beside_the_loop(name: str, class_map: Tensor, blocks: int, calls: Mapping[str, Call], setting: Setting) -> Figure:
    """The loop takes seconds, so a few rounds of their own have to do."""
    choose = random_half(NUM_CLASSES)
    few = replace(setting, rounds=min(3, setting.rounds))
    seconds = take_turns({name: calls[name], LOOP: lambda: block_loop_mask(class_map, blocks, choose)}, few)
    mine, loop = seconds[name], seconds[LOOP]
    more = {"loop_seconds": spread_of(loop).median, "times_less": 1 / ratio_of(mine, loop).median}
    return Figure("masks", name, spread_of(mine), LOOP, ratio_of(mine, loop), "at least 50 times less", more)


def _specs(finest: int) -> dict[str, Mask]:
    counts = [count for count in BLOCK_COUNTS if count < finest] + [finest]
    return {
        "ClassMix": ClassMask(),
        **{f"ComplexMix {count}": ComplexMask(block_counts=(count,)) for count in counts},
        f"ComplexMix {finest}, present classes": ComplexMask(block_counts=(finest,), classes="of_present"),
        "CutMix": BoxMask(),
        "CowMix": CowMask(),
    }


def _target(name: str, finest: int) -> str:
    return "at most 2" if name == f"ComplexMix {finest}" else ""


def patches(height: int, width: int) -> Tensor:
    """A class map [N, H, W] of patches, as predictions are, the same every time."""
    drawn = torch.randint(NUM_CLASSES, (NUM_IMAGES, 16, 16), generator=torch.Generator().manual_seed(0))
    return drawn.repeat_interleave(height // 16, dim=1).repeat_interleave(width // 16, dim=2)
