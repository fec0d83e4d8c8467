"""What is done between two phases of a method. Blind to every name of a method, model or dataset."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from trainer.data.pool_labels import PoolLabels
from trainer.methods.base import Action, Phase
from trainer.trial import Keeper, Trial


def enter(phase: Phase, trial: Trial, keeper: Keeper) -> None:
    """Do what a phase asks for on entering. A checkpoint at this step was written before, so a resume does it again."""
    for action in phase.on_enter:
        ACTIONS[action](phase, trial, keeper)


def _copy_teacher(_phase: Phase, trial: Trial, _keeper: Keeper) -> None:
    assert trial.teacher is not None
    trial.teacher.copy_student(trial.players["student"].network)


def _carry_best(_phase: Phase, trial: Trial, _keeper: Keeper) -> None:
    if trial.best is not None:
        trial.players["student"].network.load_state_dict(trial.best.weights)
        trial.best = None


def _restart_optimizers(_phase: Phase, trial: Trial, _keeper: Keeper) -> None:
    for player in trial.players.values():
        player.restart()


def _label_pool(phase: Phase, trial: Trial, keeper: Keeper) -> None:
    def make() -> PoolLabels:
        with at_work(trial.players["student"].network) as student:
            return trial.method.label_pool(student, trial.streams.pool_part(keeper.alive), phase.first_step)

    trial.use_pool_labels(keeper.labels_of_round(phase.first_step, make))


ACTIONS: Mapping[Action, Callable[[Phase, Trial, Keeper], None]] = {
    "copy_teacher": _copy_teacher,
    "carry_best": _carry_best,
    "restart_optimizers": _restart_optimizers,
    "label_pool": _label_pool,
}


@contextmanager
def at_work(network: nn.Module) -> Iterator[nn.Module]:
    """A network in eval mode and without gradient; its mode comes back as it was."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield network
    finally:
        network.train(was_training)
