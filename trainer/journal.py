"""The log of one attempt: metric records that become visible only with the checkpoint that contains them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.records import (
    EvaluationRecord,
    Segment,
    TrainRecord,
)


class NonFiniteLoss(ValueError):  # noqa: N818  (the user's word for it)
    """A training scalar that is not finite; the message names it and the steps between which it happened."""


class ScalarWindow:
    """Sums of training scalars since the last record, kept on the device: nothing waits for it at each step."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._first_step = 0

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add one step's scalars; not every scalar needs to come at every step."""
        for name, value in scalars.items():
            value = value.detach().to(torch.float64)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def check(self, step: int) -> None:
        """Look at the sums. Raises: NonFiniteLoss."""
        for name, total in self._sums.items():
            if not torch.isfinite(total):
                raise NonFiniteLoss(
                    f"{name} is not finite between steps {self._first_step} and {step}: lower optimizer.learning_rate, "
                    "or look at the data"
                )

    def means(self, step: int) -> dict[str, float]:
        """The means since the last call, in order of names; starts again."""
        self.check(step)
        means = {name: float(self._sums[name]) / self._counts[name] for name in sorted(self._sums)}
        self._sums, self._counts, self._first_step = {}, {}, step
        return means

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts, for a checkpoint between two records."""
        sums = {name: total.cpu() for name, total in self._sums.items()}
        return {"sums": sums, "counts": dict(self._counts), "first_step": self._first_step}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back what `state_dict` gave."""
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
        self._first_step = int(state["first_step"])


class Journal:
    """Pending records, and the segments that are already part of the history."""

    def __init__(self, segments: Sequence[Segment], evaluations: Sequence[EvaluationRecord]) -> None:
        self.segments = list(segments)
        self.evaluations = list(evaluations)
        self.pending: list[TrainRecord | EvaluationRecord] = []

    def train(self, step: int, scalars: dict[str, float]) -> None:
        """Note the means of training scalars."""
        self.pending.append(TrainRecord(step=step, time=time.time(), scalars=scalars))

    def evaluation(self, record: EvaluationRecord) -> None:
        """Note a judgement."""
        self.pending.append(record)
        self.evaluations.append(record)

    def committed(self, segment: Segment) -> None:
        """The pending records are in a sealed checkpoint's history now."""
        self.segments.append(segment)
        self.pending = []
