"""A network and an optimizer's spec to a player; the discriminator as a player and as a critic.

Optimizers are torch's fused ones: one pass over weight, gradient and momentum, on the CPU too (docs/performance.md).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from trainer.models.segmentation import SegmentationNetwork
from trainer.optimizers import by_listings, with_repeats
from trainer.spec import SGD, Adam, Discriminator, TrialSpec
from trainer.trial import Player


def _sgd(groups: list[dict[str, Any]], spec: SGD) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
        fused=True,
    )


def _adam(groups: list[dict[str, Any]], spec: Adam) -> torch.optim.Optimizer:
    betas = (spec.beta1, spec.beta2)
    return torch.optim.Adam(groups, lr=spec.learning_rate, betas=betas, weight_decay=spec.weight_decay, fused=True)


OPTIMIZERS: Mapping[str, Callable[[list[dict[str, Any]], Any], torch.optim.Optimizer]] = {"sgd": _sgd, "adam": _adam}


def build_student(spec: TrialSpec, network: SegmentationNetwork) -> Player:
    """The student's optimizer: the head learns faster by `head_multiplier`."""
    chosen = spec.optimizer
    backbone = [(1, network.backbone_parameters())]
    if chosen.repeats_backbone:
        backbone = list(by_listings(network.backbone))
    groups = with_repeats(backbone, chosen.learning_rate)
    groups += with_repeats([(1, network.head_parameters())], chosen.learning_rate * chosen.head_multiplier)
    return Player(network, lambda: OPTIMIZERS[chosen.kind]([dict(group) for group in groups], chosen))


def build_second_player(chosen: Discriminator, network: nn.Module) -> Player:
    """The discriminator's optimizer: Adam (docs/methods.md, cards 4 and 5)."""
    betas, rate = (chosen.beta1, chosen.beta2), chosen.learning_rate
    return Player(network, lambda: torch.optim.Adam(network.parameters(), lr=rate, betas=betas, fused=True))


def as_critic(network: nn.Module) -> Callable[..., Any]:
    """A network whose weights are out of gradients' reach: they pass through it to its input alone."""

    def judge(*inputs: Any) -> Any:
        weights = {name: weight.detach() for name, weight in network.named_parameters()}
        return functional_call(network, weights, inputs)

    return judge
