"""Optimizers whose groups may be stepped several times with one gradient. Knows no method and no model."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


def step_repeatedly(optimizer: torch.optim.Optimizer) -> None:
    """Step every parameter group as many times as its "repeats" says (once without), with the gradients there are.

    Each repetition is a whole update of the optimizer: with its own weight decay, and moving the one momentum it has.
    Source: docs/methods.md 2.5. The lineage of AdvSemiSeg lists a backbone's parameters once for each module that
    contains them, and the torch of its time updated a parameter once for each listing.
    """
    groups = optimizer.param_groups
    try:
        for time in range(max(group.get("repeats", 1) for group in groups)):
            optimizer.param_groups = [group for group in groups if group.get("repeats", 1) > time]
            optimizer.step()
    finally:
        optimizer.param_groups = groups


def by_listings(backbone: nn.Module) -> Iterator[tuple[int, list[nn.Parameter]]]:
    """The trained parameters of a backbone by the number of times that the lineage's generator lists them.

    It walks the modules of each part (conv1, layer1, …) and, of each module on the way, all parameters below it: a
    parameter comes once for every module from its part down to its own. That is 1 for the stem's convolution, 3 for
    those of a block, 4 for those of a shortcut.
    """
    found: dict[int, list[nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            found.setdefault(max(1, name.count(".")), []).append(parameter)
    yield from sorted(found.items())


def with_repeats(groups: Iterable[tuple[int, list[nn.Parameter]]], rate: float) -> list[dict[str, object]]:
    """Parameter groups of one learning rate, each with its number of repeats."""
    return [{"params": parameters, "lr": rate, "repeats": repeats} for repeats, parameters in groups if parameters]


def follow_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give what an optimizer remembers of a weight the memory layout of that weight.

    A checkpoint may come from a run of another layout. Fused kernels walk weight and momentum as they lie and do not
    look whether they lie alike (torch 2.14): they would pair the wrong values without a word.
    """
    for weight, remembered in optimizer.state.items():
        for name, value in remembered.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                remembered[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
