"""Small trials on drawn scenes, in folders that go away: what the parts of a bench train and judge with."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from trainer.build import build_trial, open_data
from trainer.fast import prepare_networks, ways_of
from trainer.journal import Journal, ScalarWindow
from trainer.spec import SGD, Evaluation, Mix, Network, RunOptions, Synthetic, TrialSpec
from trainer.trial import Keeper, Trial

NEVER = 10**6
_PLAIN = RunOptions()
Precision = Literal["float32", "tf32", "bf16"]


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for data and caches."""
    with TemporaryDirectory(prefix="mixgrid-bench-") as folder:
        yield Path(folder)


def classmix_spec(
    network: Network, height: int, width: int, *, batch: int = 2, precision: Precision = "float32", num_eval: int = 2
) -> TrialSpec:
    """ClassMix on scenes drawn at the trained size, from random weights, never judged on the way."""
    return TrialSpec(
        dataset=Synthetic(
            num_train=8, num_eval=num_eval, scene_height=height, scene_width=width, height=height, width=width
        ),
        label_fraction=Fraction(1, 2),
        network=network,
        initial_weights="random",
        method=Mix(),
        optimizer=SGD(learning_rate=0.01),
        labeled_batch=batch,
        unlabeled_batch=batch,
        num_steps=NEVER,
        precision=precision,
        evaluation=Evaluation(every=NEVER),
    )


def open_trial(spec: TrialSpec, folder: Path, device: torch.device, options: RunOptions = _PLAIN) -> Trial:
    """What one process trains with, by the ways that the options name."""
    train, evaluation, split = open_data(spec, folder / "data", folder / "cache")
    ways = ways_of(options, spec, train, device, saves_memory=options.activation_checkpointing)
    trial, _ = build_trial(spec, split, train, evaluation, weights=folder / "weights", device=device, ways=ways)
    prepare_networks(trial, options.compile, saves_memory=options.activation_checkpointing)
    return trial


class NoKeeper(Keeper):
    """Keeps nothing."""

    def __init__(self) -> None:
        super().__init__(Journal((), ()), ScalarWindow())

    def commit(self, step: int) -> None:
        """Let it pass."""
