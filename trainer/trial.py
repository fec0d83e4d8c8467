"""All that one rank trains with, its state, and who keeps it safe. Blind to every method, model and dataset by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.data.cache import CachedSplit
from trainer.data.pool_labels import PoolLabels
from trainer.data.streams import Streams
from trainer.evaluate import Predict, predict_whole
from trainer.journal import Journal, ScalarWindow
from trainer.methods.base import Method, Networks
from trainer.optimizers import follow_layout, step_repeatedly
from trainer.records import EvaluationRecord
from trainer.schedules import RateFactor
from trainer.spec import TrialSpec
from trainer.teacher import Teacher


class Player:
    """A network with its optimizer; learning rates follow the schedule from the rates it was built with."""

    def __init__(self, network: nn.Module, make_optimizer: Callable[[], torch.optim.Optimizer]) -> None:
        self.network = network
        self._make_optimizer = make_optimizer
        self.restart()

    def restart(self) -> None:
        """Forget all momentum: a new optimizer for the same weights."""
        self.optimizer = self._make_optimizer()
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]

    def set_rate(self, factor: float) -> None:
        """Scale every group's base learning rate."""
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = base * factor

    def step(self) -> None:
        """Move along the gradients gathered in this turn, and forget them."""
        step_repeatedly(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True, slots=True)
class Best:
    """The student's weights at its best judgement of a phase, on the CPU."""

    mean_iou: float
    weights: dict[str, Tensor]


@dataclass(slots=True)
class Trial:
    """All that one rank trains with, wired up by build/.

    `labels_digest` names the labels that the current round trains on, `best` what a coming phase may go on from,
    `predict` what a network sees at once of an image that it is judged on.
    """

    spec: TrialSpec
    method: Method
    players: dict[str, Player]
    teacher: Teacher | None
    networks: Networks
    streams: Streams
    evaluation_images: CachedSplit
    device: torch.device
    dtype: torch.dtype
    rate_factor: RateFactor
    labels_digest: str | None = None
    best: Best | None = None
    predict: Predict = predict_whole

    def use_pool_labels(self, labels: PoolLabels) -> None:
        """Show these labels with the unlabelled images from now on."""
        self.labels_digest = labels.digest
        self.streams.use_pool_labels(labels)

    def remember(self, record: EvaluationRecord) -> None:
        """Keep the student's weights where no judgement of this phase was better."""
        is_better = self.best is None or (record.mean_iou or 0.0) > self.best.mean_iou
        if record.network == "student" and is_better:
            weights = self.players["student"].network.state_dict()
            self.best = Best(record.mean_iou or 0.0, {name: value.cpu().clone() for name, value in weights.items()})

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, besides the spec."""
        best = None if self.best is None else {"mean_iou": self.best.mean_iou, "weights": self.best.weights}
        return {
            "networks": {name: player.network.state_dict() for name, player in self.players.items()},
            "optimizers": {name: player.optimizer.state_dict() for name, player in self.players.items()},
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "round": {"labels": self.labels_digest, "best": best},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; the labels themselves are the keeper's to bring."""
        for name, player in self.players.items():
            player.network.load_state_dict(state["networks"][name])
            player.optimizer.load_state_dict(state["optimizers"][name])
            follow_layout(player.optimizer)
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        best = state["round"]["best"]
        self.best = None if best is None else Best(float(best["mean_iou"]), dict(best["weights"]))
        self.labels_digest = state["round"]["labels"]


class Keeper(ABC):
    """What the loop asks for safety: implemented by run.py, which knows storage."""

    alive: Callable[[], None]
    """Called wherever training moved on, for a watchdog."""

    def __init__(self, journal: Journal, window: ScalarWindow) -> None:
        self.journal = journal
        self.window = window
        self.alive = lambda: None

    @abstractmethod
    def commit(self, step: int) -> None:
        """Make everything up to `step` updates safe."""

    def draw(self, step: int) -> None:
        """Leave a picture of the networks as they are after `step` updates, where anybody wants one."""
        return

    def labels_of_round(self, step: int, make: Callable[[], PoolLabels]) -> PoolLabels:
        """The labels of the round that begins after `step` updates: those kept before, else made and kept now."""
        return make()
