"""The averaged copy of the student."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from trainer.spec import Teacher as TeacherSpec


def decay_at(updates: int, spec: TeacherSpec) -> float:
    """The averaging factor of the update after `updates` updates since the copy.

    Source: ClassMix, trainSSL.py: min(1 - 1 / (iteration + 1), 0.99), so that the first update copies the student.
    """
    return min(1 - 1 / (updates + 1), spec.ema_decay) if spec.warm_up else spec.ema_decay


class Teacher:
    """A network that follows the student and never has gradients.

    `batch_norm` "own": the network normalises by its own batches in train mode and only parameters are averaged;
    "averaged": buffers are averaged too and the network runs in eval mode. Differs from ClassMix's code: the copy
    takes the student's buffers along, where ClassMix starts with fresh ones; only an early teacher's scores differ.
    """

    def __init__(self, student: nn.Module, spec: TeacherSpec) -> None:
        self.spec = spec
        self.updates = 0
        self.network = copy.deepcopy(student).requires_grad_(False)
        self.to_work()

    def to_work(self) -> None:
        """Put the network into the mode in which it labels."""
        self.network.train(self.spec.batch_norm == "own")

    @torch.no_grad()
    def copy_student(self, student: nn.Module) -> None:
        """Start again from the student: parameters and buffers, averaging counted from here."""
        self.network.load_state_dict(student.state_dict())
        self.updates = 0

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Average once, after the student's step."""
        decay = decay_at(self.updates, self.spec)
        torch._foreach_lerp_(list(self.network.parameters()), list(student.parameters()), 1 - decay)
        if self.spec.batch_norm == "averaged":
            for mine, theirs in zip(self.network.buffers(), student.buffers(), strict=True):
                mine.copy_(mine.lerp(theirs, 1 - decay) if mine.is_floating_point() else theirs)
        self.updates += 1

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Logits [N, C, H, W] of images [N, 3, H, W], without gradient."""
        logits: Tensor = self.network(image)
        return logits

    def state_dict(self) -> dict[str, Any]:
        """Network and counter."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.updates = int(state["updates"])
