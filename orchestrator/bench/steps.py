"""Calls that train a few steps more, and what one step computes: what the measurements of a step are made of."""

import copy
from itertools import count

import torch

from orchestrator.bench.measuring import Call
from orchestrator.bench.plain import Halves, PublishedStep, bare_steps
from orchestrator.bench.rooms import NEVER, NoKeeper
from orchestrator.cost import network_cost, trained_size
from trainer.host import NoHost
from trainer.loop import Cadence, train
from trainer.machine import allow_tf32
from trainer.randomness import key_of
from trainer.spec import Mix, TrialSpec
from trainer.trial import Trial


class StopAt(NoHost):
    """Asks the loop to stop at its next record, which is one chunk on."""

    def stop_requested(self, step: int) -> bool:
        return True


def loop_chunks(trial: Trial, steps: int) -> Call:
    """Each call trains so many steps more, by the loop."""
    chunk, keeper = count(), NoKeeper()
    cadence = Cadence(log=steps, checkpoint=NEVER, evaluate=NEVER)
    return lambda: train(trial, keeper, StopAt(), cadence, next(chunk) * steps)


def bare_chunks(trial: Trial, steps: int) -> Call:
    """Each call trains so many steps more, by a bare loop over the batches of the first ones, read beforehand."""
    chunk = count()
    ready = [trial.streams.at(step) for step in range(steps)]
    return lambda: bare_steps(trial, ready, next(chunk) * steps)


def published_steps(trial: Trial) -> tuple[PublishedStep, Call]:
    """The published way on copies of the networks, and a call for one step more, always on the same images."""
    student, batches, spec = trial.players["student"].network, trial.streams.at(0), trial.spec
    student = copy.deepcopy(student)
    student.autocast_dtype = None  # type: ignore[assignment]
    assert isinstance(spec.method, Mix)
    trained = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, weight_decay=5e-4, foreach=False)
    step = PublishedStep(student, copy.deepcopy(student).requires_grad_(False), optimizer, spec.method.augmentation)
    halves = Halves(batches["labeled"].image, batches["labeled"].label, batches["unlabeled"].image)
    steps = count()
    return step, lambda: step(halves, key=key_of(spec.seed, "strong_augmentation", next(steps)), decay=0.99)


def with_tf32(allowed: bool, call: Call) -> Call:
    """A call for which CUDA may round factors of float32 products to TF32, or may not."""

    def call_with_tf32() -> None:
        allow_tf32(allowed)
        call()

    return call_with_tf32


def computed_in(spec: TrialSpec) -> torch.dtype:
    """What the matrix products of a trial are made of."""
    return torch.bfloat16 if spec.precision == "bf16" else torch.float32


def step_flop(spec: TrialSpec) -> float:
    """FLOP of the networks in one step: a multiply-add is two, a backward pass costs two forward passes."""
    cost = network_cost(spec.network)
    assert cost is not None
    height, width = trained_size(spec)
    units = spec.method.forward_units(spec.labeled_batch, spec.unlabeled_batch)
    return 2 * cost.macs_per_pixel * height * width * units
