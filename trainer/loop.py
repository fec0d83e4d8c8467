"""The training loop. It knows players, turns and a teacher; it is blind to every name of a method, model or dataset."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from trainer.distributed import agree, rank
from trainer.evaluate import evaluate
from trainer.host import Host
from trainer.methods.base import Objective, Phase, phase_at
from trainer.metrics import class_iou, mean_iou
from trainer.phases import enter
from trainer.records import EvaluationRecord
from trainer.schedules import is_due
from trainer.spec import TrialSpec
from trainer.trial import Keeper, Trial


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
            enter(phase, trial, keeper)

        # --- one step ---------------------------------------------------------------------------------------------
        batches = trial.streams.at(step)
        for name, objectives in turns(method.objectives(trial.networks, batches, step)):
            for objective in objectives:
                objective.loss.backward()  # type: ignore[no-untyped-call]
                keeper.window.add(objective.scalars)
            trial.players[name].set_rate(rate_factor(trial, phase, step))
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
                if phase.keeps_best:
                    trial.remember(record)
            keeper.draw(done)
        stopping = is_due(done, cadence.log) and agree(rank() == 0 and host.stop_requested(done), trial.device)
        if is_due(done, cadence.checkpoint) or is_last or stopping:
            keeper.window.check(done)
            keeper.commit(done)
        if stopping and not is_last:
            return False
    return True


def rate_factor(trial: Trial, phase: Phase, step: int) -> float:
    """What learning rates are multiplied with: the schedule runs over the trial, or over a phase that says so."""
    if phase.restarts_schedule:
        return trial.rate_factor(step - phase.first_step, phase.num_steps)
    return trial.rate_factor(step, trial.spec.num_steps)


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
