"""Networks small enough to compute by hand, and batches for them: shared by the tests of methods with two players."""

from typing import Any

import torch
from torch import Tensor, nn

from trainer.build import as_critic
from trainer.losses import IGNORE_INDEX
from trainer.methods.base import Batch, Networks


class ByColour(nn.Module):
    """Scores three classes by the image's channels times a gain; remembers what it saw and in which mode."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.seen: list[Tensor] = []
        self.modes: list[tuple[bool, bool]] = []  # training, with gradient

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N, 3, H, W]."""
        self.seen.append(image.detach())
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.gain * image


def with_second(student: nn.Module, second: nn.Module) -> Networks:
    """A student and a discriminator, which is its critic too, as build/ has it."""
    return Networks(student, None, second, as_critic(second))


def images(samples: int, seed: int, height: int = 2, width: int = 3) -> Tensor:
    """Random images [samples, 3, H, W] float64 in [-2, 2], so that a network by colour is of several minds."""
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.rand(samples, 3, height, width, generator=generator, dtype=torch.float64) - 2


def batch_of(image: Tensor, label: Any = None, first: int = 0) -> Batch:
    """A batch with the given labels, or none."""
    shape = (len(image), *image.shape[2:])
    label_map = torch.full(shape, IGNORE_INDEX) if label is None else torch.as_tensor(label).expand(shape).clone()
    return Batch(image, label_map, torch.arange(first, first + len(image)))
