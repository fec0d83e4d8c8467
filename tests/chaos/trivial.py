"""A trial whose every number follows from its spec by a few lines of plain Python.

One weight, pulled by integers: all sums are exact in float64, so what a broken and mended history leaves can be
compared bit for bit with a closed form. Only the building of a trial is replaced; `run_trial`, the loop, the keeper,
checkpoints and records are the real ones.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trainer.attempt
import trainer.digests
from trainer.code import code_digest
from trainer.data.cache import CachedSplit
from trainer.data.splits import Split
from trainer.methods.base import Batch, Method, Networks, Objective, Phase, Stream
from trainer.models.weights import WeightsReport
from trainer.records import (
    EvaluationRecord,
    Record,
    TrainRecord,
)
from trainer.schedules import poly
from trainer.spec import SGD, Evaluation, Folders, Mix, Poly, Supervised, Teacher, TinyNetwork, TrialSpec
from trainer.teacher import Teacher as AveragedNetwork
from trainer.trial import Player, Trial

CLASS_NAMES = ("below", "above", "never")
SIDE = 8
LEARNING_RATE, MOMENTUM, DECAY = 0.5, 0.5, 0.5
DATASET = Folders(name="trivial", images="-", labels="-", class_names=CLASS_NAMES, height=SIDE, width=SIDE)


def trivial_spec(*, num_steps: int = 8, start: int | None = 3, every: int = 3, seed: int = 0) -> TrialSpec:
    """A trial of a supervised start and then mixing, or supervised to its end where `start` is None."""
    mixing = Mix(supervised_start=start or 0, teacher=Teacher(ema_decay=DECAY))
    is_power_of_two = num_steps & (num_steps - 1) == 0  # where a falling rate is exact
    return TrialSpec(
        dataset=DATASET,
        label_fraction=Fraction(1, 2),
        network=TinyNetwork(),
        initial_weights="random",
        method=Supervised() if start is None else mixing,
        optimizer=SGD(learning_rate=LEARNING_RATE, momentum=MOMENTUM, weight_decay=0.0),
        schedule=Poly(power=1.0 if is_power_of_two else 0.0),
        num_steps=num_steps,
        precision="float64",
        evaluation=Evaluation(every=every),
        seed=seed,
    )


def pull(seed: int, step: int) -> int:
    """What pulls at the weight in a step: an integer within ±16."""
    return hashlib.sha256(f"{seed} {step}".encode()).digest()[0] % 33 - 16


# --- what is built ------------------------------------------------------------------------------------------------


class OneWeight(nn.Module):
    """Gives the first floor(weight) pixels, modulo their number, class 1 and the others class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N, 3, H, W] of images whose red is the number of the pixel."""
        number = (image[:, 0] * 255).round()
        above = (number < self.weight.detach().floor().remainder(SIDE * SIDE)).to(image.dtype)
        return torch.stack([1 - above, above, torch.full_like(above, -1.0)], dim=1)


class Pulled(Method):
    """The step's integer pulls at the weight; after the supervised start the whole part of the teacher's does too."""

    def __init__(self, spec: TrialSpec) -> None:
        self._num_steps = spec.num_steps
        self._start = start_of(spec)
        self.teacher = spec.method.teacher if isinstance(spec.method, Mix) else None

    @property
    def streams(self) -> tuple[Stream, ...]:
        """None that anybody reads."""
        return ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """As those of the methods that mix."""
        mixing = Phase(self._start, self._num_steps - self._start, ("copy_teacher",))
        if self.teacher is None:
            return (Phase(0, self._num_steps, has_teacher=False),)
        return (Phase(0, self._start, has_teacher=False), mixing) if self._start else (mixing,)

    def objectives(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Iterator[Objective]:
        """Losses whose slope is an integer."""
        yield self._objective("supervised_loss", networks, batches["pull"].index)
        if networks.teacher is not None and step >= self._start:
            yield self._objective("unlabeled_loss", networks, weight_of(networks.teacher).floor().remainder(4))

    def _objective(self, name: str, networks: Networks, slope: Tensor) -> Objective:
        loss = weight_of(networks.student) * slope
        return Objective("student", loss, {name: loss.detach()})

    def pictures(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Sequence[tuple[str, Tensor]]:
        """One that is quickly drawn, so that there is a preview to write."""
        return (("nothing", torch.zeros(3, 1, 256)),)


def weight_of(network: Any) -> Tensor:
    """The one weight of a student or of an averaged network."""
    inner = network.network if isinstance(network, AveragedNetwork) else network
    weight: Tensor = inner.weight
    return weight


def start_of(spec: TrialSpec) -> int:
    """Steps before mixing begins."""
    return spec.method.supervised_start if isinstance(spec.method, Mix) else spec.num_steps


class Pulls:
    """In the place of streams: a step's batch is its integer; `on_step` is called before each step of training."""

    def __init__(self, spec: TrialSpec, on_step: Callable[[int], None]) -> None:
        self._spec = spec
        self._on_step = on_step

    def at(self, step: int) -> dict[str, Batch]:
        """The batch of a step."""
        self._on_step(step)
        return self.whole(step)

    def whole(self, step: int) -> dict[str, Batch]:
        """The same for a picture, which is no step of training."""
        value = torch.tensor(pull(self._spec.seed, step), dtype=torch.float64)
        return {"pull": Batch(image=value, label=value, index=value)}

    def close(self) -> None:
        """Nothing reads ahead."""


def open_trivial_data(_spec: TrialSpec, _data: Path, _cache: Path) -> tuple[CachedSplit, CachedSplit, Split]:
    """One image, judged and never trained on."""
    images = _one_image()
    return images, images, Split(labeled=("a",), unlabeled=("b",))


@cache
def _one_image() -> CachedSplit:
    number = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(1, SIDE, SIDE)
    return CachedSplit(
        path=Path("nowhere"),
        names=("only",),
        has_label=np.array([True]),
        digest="0" * 64,
        class_names=CLASS_NAMES,
        height=SIDE,
        width=SIDE,
        _images=(np.stack([number, number, number], axis=-1),),
        _labels=(number % 3,),
    )


def build_trivial_trial(spec: TrialSpec, on_step: Callable[[int], None]) -> tuple[Trial, WeightsReport]:
    """What `build_trial` would give."""
    network, method = OneWeight(), Pulled(spec)
    rate, momentum = spec.optimizer.learning_rate, spec.optimizer.momentum
    teacher = None if method.teacher is None else AveragedNetwork(network, method.teacher)
    trial = Trial(
        spec=spec,
        method=method,
        players={"student": Player(network, lambda: torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum))},
        teacher=teacher,
        networks=Networks(network, teacher),
        streams=Pulls(spec, on_step),  # type: ignore[arg-type]
        evaluation_images=_one_image(),
        device=torch.device("cpu"),
        dtype=torch.float64,
        rate_factor=partial(poly, power=spec.schedule.power),
    )
    return trial, WeightsReport(kind="random", file_name="", sha256="random", num_loaded=0)


_code_digest = cache(code_digest)  # which reads every file of the room

OnBuild = Callable[[TrialSpec], Callable[[int], None]]
"""Called when an attempt builds its trial; gives what is called before each of its steps."""


@contextmanager
def trivial_world(on_build: OnBuild) -> Iterator[pytest.MonkeyPatch]:
    """Let `run_trial` build trivial trials; more may be patched for as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.attempt, "open_data", open_trivial_data)
        patch.setattr(trainer.attempt, "build_trial", lambda spec, *_, **__: build_trivial_trial(spec, on_build(spec)))
        patch.setattr(trainer.digests, "code_digest", _code_digest)
        yield patch


# --- what is to come out ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """The closed form of a trial: its records in order, and the weights after the last step."""

    records: list[tuple[Any, ...]]
    student: float
    teacher: float | None

    @property
    def evaluations(self) -> list[tuple[Any, ...]]:
        """The judgements among the records."""
        return [record for record in self.records if record[0] == "evaluation"]

    @property
    def last_mean_iou(self) -> float:
        """What a table shows of the student."""
        return float([record for record in self.evaluations if record[2] == "student"][-1][-1])


@cache
def expected_of(spec: TrialSpec, log_every: int) -> Expected:
    """Walk through a trial in exact fractions."""
    start, has_teacher = start_of(spec), isinstance(spec.method, Mix)
    weight, speed, averaged, updates = Fraction(0), Fraction(0), Fraction(0), 0
    records: list[tuple[Any, ...]] = []
    window: dict[str, list[Fraction]] = {}
    for step in range(spec.num_steps):
        mixes = has_teacher and step >= start
        if mixes and step == start:
            averaged, updates = weight, 0
        slopes = {"supervised_loss": pull(spec.seed, step)}
        if mixes:
            slopes["unlabeled_loss"] = floor(averaged) % 4
        for name, slope in slopes.items():
            window.setdefault(name, []).append(weight * slope)
        rate = Fraction(LEARNING_RATE) * (1 - Fraction(step, spec.num_steps)) ** int(spec.schedule.power)
        speed = Fraction(MOMENTUM) * speed + sum(slopes.values())
        weight -= rate * speed
        if mixes:
            averaged = weight if updates == 0 else (averaged + weight) / 2
            updates += 1
        done = step + 1
        is_last = done == spec.num_steps
        if done % log_every == 0 or is_last:
            means = {name: float(sum(values)) / len(values) for name, values in window.items()}
            records.append(("train", done, means))
            window = {}
        if done % spec.evaluation.every == 0 or is_last:
            records.append(("evaluation", done, "student", *judgement(weight)))
            records += [("evaluation", done, "teacher", *judgement(averaged))] if mixes else []
    return Expected(records, float(weight), float(averaged) if has_teacher else None)


def judgement(weight: Fraction) -> tuple[Any, ...]:
    """Confusion, IoU of each class and their mean, pixel by pixel."""
    counts = [[0, 0, 0] for _ in CLASS_NAMES]
    for number in range(SIDE * SIDE):
        counts[number % 3][int(number < floor(weight) % (SIDE * SIDE))] += 1
    ious = []
    for index, row in enumerate(counts):
        union = sum(row) + sum(other[index] for other in counts) - row[index]
        ious.append(row[index] / union)
    return tuple(tuple(row) for row in counts), tuple(ious), sum(ious) / len(ious)


def told_by(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """Records as the closed form has them."""
    told: list[tuple[Any, ...]] = []
    for record in records:
        if isinstance(record, EvaluationRecord):
            judged = (record.confusion, record.class_iou, record.mean_iou)
            told.append(("evaluation", record.step, record.network, *judged))
        else:
            assert isinstance(record, TrainRecord)
            told.append(("train", record.step, record.scalars))
    return told
