"""The training loop. It knows players, turns and a teacher; it is blind to every name of a method, model or dataset."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from trainer.data.cache import CachedSplit
from trainer.data.streams import Streams
from trainer.distributed import agree, rank
from trainer.evaluate import Predict, evaluate, predict_whole
from trainer.host import Host
from trainer.journal import Journal, ScalarWindow
from trainer.methods.base import Method, Networks, Objective, Phase
from trainer.metrics import class_iou, mean_iou
from trainer.optimizers import step_repeatedly
from trainer.records import EvaluationRecord
from trainer.schedules import RateFactor, is_due
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


@dataclass(slots=True)
class Trial:
    """All that one rank trains with, wired up by build.py."""

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
    predict: Predict = predict_whole

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, besides the spec."""
        return {
            "networks": {name: player.network.state_dict() for name, player in self.players.items()},
            "optimizers": {name: player.optimizer.state_dict() for name, player in self.players.items()},
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name, player in self.players.items():
            player.network.load_state_dict(state["networks"][name])
            player.optimizer.load_state_dict(state["optimizers"][name])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])


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


@dataclass(frozen=True, slots=True)
class Cadence:
    """Every how many updates the occasional things are done."""

    log: int
    checkpoint: int
    evaluate: int


def turns(objectives: Iterable[Objective]) -> Iterator[tuple[str, Iterator[Objective]]]:
    """Group consecutive objectives of one player; lazily, so that a method runs between two backward passes."""
    return groupby(objectives, key=lambda objective: objective.player)


def train(trial: Trial, keeper: Keeper, host: Host, cadence: Cadence, first_step: int) -> bool:
    """Train from `first_step` updates done to the end; return False if the host asked to stop before."""
    spec, method, teacher = trial.spec, trial.method, trial.teacher
    student = trial.players["student"].network
    clock = time.monotonic(), first_step

    for step in range(first_step, spec.num_steps):
        phase = phase_at(method.phases, step)
        if step == phase.first_step:
            enter(phase, trial)

        # --- one step ---------------------------------------------------------------------------------------------
        batches = trial.streams.at(step)
        for name, objectives in turns(method.objectives(trial.networks, batches, step)):
            for objective in objectives:
                objective.loss.backward()  # type: ignore[no-untyped-call]
                keeper.window.add(objective.scalars)
            trial.players[name].set_rate(trial.rate_factor(step, spec.num_steps))
            trial.players[name].step()
        if teacher is not None and phase.has_teacher:
            teacher.update(student)
        done = step + 1
        keeper.alive()

        # --- now and then -----------------------------------------------------------------------------------------
        is_last = done == spec.num_steps
        if is_due(done, cadence.log) or is_last:
            scalars = keeper.window.means(done)
            keeper.journal.train(done, scalars)
            clock = report(host, spec, done, scalars, clock)
        if is_due(done, cadence.evaluate) or is_last:
            for record in judge(trial, phase, done, keeper.alive):
                keeper.journal.evaluation(record)
        stopping = is_due(done, cadence.log) and agree(rank() == 0 and host.stop_requested(done), trial.device)
        if is_due(done, cadence.checkpoint) or is_last or stopping:
            keeper.window.check(done)
            keeper.commit(done)
        if stopping and not is_last:
            return False
    return True


def phase_at(phases: tuple[Phase, ...], step: int) -> Phase:
    """The phase that the update after `step` updates belongs to."""
    return next(phase for phase in reversed(phases) if phase.first_step <= step)


def enter(phase: Phase, trial: Trial) -> None:
    """Do what a phase asks for on entering. A checkpoint at this step was written before, so a resume does it again."""
    for action in phase.on_enter:
        if action == "copy_teacher":
            assert trial.teacher is not None
            trial.teacher.copy_student(trial.players["student"].network)


def report(
    host: Host, spec: TrialSpec, done: int, scalars: Mapping[str, float], clock: tuple[float, int]
) -> tuple[float, int]:
    """Tell the host how far and how fast; return the new (time, step) to measure from."""
    now = time.monotonic()
    rate = (done - clock[1]) / max(now - clock[0], 1e-9)
    host.report({"step": done, "num_steps": spec.num_steps, "steps_per_second": rate, **scalars})
    return now, done


def judge(trial: Trial, phase: Phase, step: int, alive: Callable[[], None]) -> list[EvaluationRecord]:
    """Evaluate the student and, where the phase has one, the teacher; `alive` is called after every batch."""
    networks: list[tuple[Any, nn.Module]] = [("student", trial.players["student"].network)]
    if trial.teacher is not None and phase.has_teacher:
        networks.append(("teacher", trial.teacher.network))
    images = trial.evaluation_images
    return [
        evaluation_record(
            name,
            step,
            evaluate(network, images, device=trial.device, dtype=trial.dtype, predict=trial.predict, alive=alive),
            (images.height, images.width),
        )
        for name, network in networks
    ]


def evaluation_record(network: Any, step: int, confusion: Tensor, eval_size: tuple[int, int]) -> EvaluationRecord:
    """The record of one judgement."""
    ious = class_iou(confusion)
    return EvaluationRecord(
        step=step,
        time=time.time(),
        network=network,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        class_iou=tuple(ious),
        mean_iou=mean_iou(ious),
        num_undefined=ious.count(None),
        eval_size=eval_size,
    )
