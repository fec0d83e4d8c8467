"""A few real steps of each kind of trial on this machine, to forecast by: the trainer's own loop, and nothing is kept.

Neither a storage nor a ledger is touched; images that are not prepared yet are, as a run would prepare them.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import torch

from orchestrator.bench.measuring import seconds_of
from orchestrator.bench.rooms import NEVER, NoKeeper
from orchestrator.cost import judgements, pool_pixels
from orchestrator.forecast import ImageCounts, Span, total
from trainer.build import build_method, build_trial, open_data
from trainer.data.cache import cache_folder
from trainer.evaluate import evaluate
from trainer.host import NoHost, Progress
from trainer.loop import Cadence, train
from trainer.machine import allow_tf32, choose_device, device_name, keep_freed_memory
from trainer.methods.base import Phase
from trainer.phases import enter
from trainer.spec import RunOptions, TrialSpec
from trainer.trial import Trial

_LEAST_RECORDS = 8
_LEAST_SECONDS = 3.0
_MOST_SECONDS = 20.0
"""Of each phase: so many measurements, then more until so long is over, since a machine is not always as fast; none
begins later than the most, and one is made whatever it takes."""
_STEPS_A_RECORD = {"cpu": 1, "cuda": 5}  # on a GPU the host is not to wait for the device at every step
_JUDGED_IMAGES = 4
_SHAPE = ("dataset", "view", "network", "labeled_batch", "unlabeled_batch", "precision")
Kind = tuple[tuple[str, ...] | None, bool]
"""What makes steps of two phases alike: the streams that are read, and whether the teacher follows."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one kind of trial goes here: seconds of a step by kind of phase, and of judging an image once.

    Spans are the smallest, the median and the largest of what was measured; `num_measured` is how many measurements
    the phase with the fewest had, the first of each left out. `opening` are the seconds until a first step could begin,
    with what was imported for it.
    """

    steps: Mapping[Kind, Span]
    judging: Span
    num_classes: int
    num_measured: int
    opening: float = 0.0

    def seconds(self, spec: TrialSpec, counts: tuple[int, int], first_step: int) -> Span | None:
        """What is left of a trial from a step on; None where a phase of it was not measured.

        Args:
            counts: training and evaluation images.
        """
        spans = []
        for phase in build_method(spec, self.num_classes).phases:
            left = phase.first_step + phase.num_steps - max(first_step, phase.first_step)
            if left > 0 and _kind(phase) not in self.steps:
                return None
            spans += [self.steps[_kind(phase)].times(left)] if left > 0 else []
        images = judgements(spec) * counts[1] + pool_pixels(spec, counts[0]) / (
            spec.dataset.height * spec.dataset.width
        )
        return total([*spans, self.judging.times(images * (1 - first_step / spec.num_steps))])


class Probe:
    """What was measured of each kind of trial, on which device and when."""

    def __init__(self, device: str, counts: ImageCounts) -> None:
        self._paces: dict[str, Pace] = {}
        self._device, self._counts = device, counts
        self._date = datetime.now(UTC).date().isoformat()

    def add(self, spec: TrialSpec, pace: Pace) -> None:
        """Note the pace of all trials of a shape."""
        self._paces[shape_of(spec)] = pace

    def step_seconds(self, spec: TrialSpec) -> float | None:
        """What the slowest kind of step of a trial is expected to take; None where nothing was measured."""
        pace = self._paces.get(shape_of(spec))
        return None if pace is None else max(span.expected for span in pace.steps.values())

    def __call__(self, spec: TrialSpec, first_step: int) -> tuple[Span, str] | None:
        """Device-seconds of a trial from a step on, and what they are drawn from; None where nothing was measured."""
        pace = self._paces.get(shape_of(spec))
        span = None if pace is None else pace.seconds(spec, self._counts(spec), first_step)
        if pace is None or span is None:
            return None
        opening = max(pace.opening for pace in self._paces.values())  # the first had to import everything, as each will
        span = total([span, Span(opening, opening, opening)])
        return span, f"probe of {pace.num_measured} steps on {self._device}, {self._date}"


def shape_of(spec: TrialSpec) -> str:
    """What the time of a step depends on: method family, network, sizes, batches, precision, and how it is judged."""
    parts = spec.model_dump_json(include=set(_SHAPE))
    return f"{spec.method.name} {parts} {spec.optimizer.kind} {spec.evaluation.protocol}"


def shapes(specs: Iterable[TrialSpec]) -> dict[str, TrialSpec]:
    """The first spec of each shape."""
    found: dict[str, TrialSpec] = {}
    for spec in specs:
        found.setdefault(shape_of(spec), spec)
    return found


def prepared(options: RunOptions) -> torch.device:
    """This process made as that of a trial; the device it computes on. Raises: SetupError."""
    device = choose_device(options)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    return device


def measure(spec: TrialSpec, options: RunOptions, device: torch.device) -> Pace:
    """Train a few steps of every kind of phase of a trial, and judge a few images.

    The networks start from random weights, which are as fast as others; of the unlabelled pool a few images do.
    Raises: DataError where the images are not there.
    """
    open_data(spec, Path(options.data), cache_folder(options.cache))  # to prepare images is not a trial's work
    began = time.monotonic()
    trial = opened(spec, options, device)
    opening = time.monotonic() - began
    kinds = {_kind(phase): phase for phase in reversed(trial.method.phases)}
    try:
        measured = {kind: _step_seconds(trial, phase) for kind, phase in sorted(kinds.items(), key=_first_step)}
        judging = _judging_seconds(trial)
    finally:
        trial.streams.close()
    return Pace(
        steps={kind: _span(seconds) for kind, seconds in measured.items()},
        judging=_span(judging),
        num_classes=len(trial.evaluation_images.class_names),
        num_measured=min(map(len, measured.values())),
        opening=opening,
    )


def opened(spec: TrialSpec, options: RunOptions, device: torch.device) -> Trial:
    """A trial with random weights and a few images of the pool, at its first step. Raises: DataError."""
    train_images, eval_images, split = open_data(spec, Path(options.data), cache_folder(options.cache))
    few = replace(split, unlabeled=split.unlabeled[: 8 * spec.unlabeled_batch])
    allow_tf32(spec.precision == "tf32")
    random = spec.model_copy(update={"initial_weights": "random"})
    trial, _ = build_trial(random, few, train_images, eval_images, weights=Path(options.data), device=device)
    return trial


def device_here(device: torch.device) -> str:
    """What a person calls it."""
    return device_name(str(device))


class _Stopwatch(NoHost):
    """Takes the seconds of a step from each record of the loop, and asks it to stop when enough is known."""

    def __init__(self, last_step: int) -> None:
        self.seconds: list[float] = []
        self._last_step, self._began = last_step, time.monotonic()

    def report(self, progress: Progress) -> None:
        self.seconds.append(1 / float(progress["steps_per_second"]))
        if len(self.seconds) == 1:
            self._began = time.monotonic()

    def stop_requested(self, step: int) -> bool:
        taken, number = time.monotonic() - self._began, len(self.seconds)
        is_enough = (number > _LEAST_RECORDS and taken > _LEAST_SECONDS) or step >= self._last_step
        return is_enough or (number > 1 and taken > _MOST_SECONDS)


def _step_seconds(trial: Trial, phase: Phase) -> list[float]:
    """Seconds of a step in each record but the first, in which all is met for the first time.

    From the middle of the phase on, since some of what a method does begins within a phase.
    """
    keeper = NoKeeper()
    enter(phase, trial, keeper)
    watch = _Stopwatch(min(phase.first_step + phase.num_steps, trial.spec.num_steps - 1))
    cadence = Cadence(log=_STEPS_A_RECORD[trial.device.type], checkpoint=NEVER, evaluate=NEVER)
    train(trial, keeper, watch, cadence, phase.first_step + phase.num_steps // 2)
    return watch.seconds[1:] or watch.seconds


def _judging_seconds(trial: Trial) -> list[float]:
    """Seconds of an image, once at a time over a few, the first time left out."""
    images = trial.evaluation_images
    judged = np.flatnonzero(images.has_label)[:_JUDGED_IMAGES]
    few = replace(images, has_label=np.isin(np.arange(len(images)), judged))

    def call() -> object:
        student = trial.players["student"].network
        return evaluate(student, few, device=trial.device, dtype=trial.dtype, predict=trial.predict)

    return [seconds_of(call, trial.device) / max(len(judged), 1) for _ in range(3)][1:]


def _kind(phase: Phase) -> Kind:
    return phase.streams, phase.has_teacher


def _first_step(item: tuple[Kind, Phase]) -> int:
    return item[1].first_step


def _span(seconds: list[float]) -> Span:
    return Span(min(seconds), median(seconds), max(seconds))
