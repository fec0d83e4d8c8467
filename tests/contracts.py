"""What every method promises, and the small trials on which it is shown. A test class inherits the contract."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.build import build_trial, open_data
from trainer.checkpoint import from_bytes, to_bytes
from trainer.host import NoHost, Progress
from trainer.journal import Journal, ScalarWindow
from trainer.loop import Cadence, train, turns
from trainer.methods.base import Objective, phase_at
from trainer.phases import enter
from trainer.records import (
    EvaluationRecord,
    Record,
    TrainRecord,
)
from trainer.spec import (
    DSTCBC,
    NAMED_METHODS,
    SGD,
    Adam,
    Adversarial,
    AnyMethod,
    Constant,
    Discriminator,
    Evaluation,
    Folders,
    RunOptions,
    TinyNetwork,
    TrialSpec,
)
from trainer.trial import Keeper, Trial

SMALL = Folders(
    name="small",
    images="images",
    labels="labels",
    class_names=("ground", "red", "green", "blue"),
    height=32,
    width=64,
)
SUPERVISED_START = 2
SMALL_DISCRIMINATOR = Discriminator(width=4)


def small_method(name: str) -> AnyMethod:
    """A named method that plays all its parts from the third step at the latest, with gates a fresh network passes."""
    method = NAMED_METHODS[name]
    changes = {
        "mix": {
            "supervised_start": min(getattr(method, "supervised_start", 0), SUPERVISED_START),
            "confidence_threshold": 0.3,
        },
        "adversarial": {
            "self_taught_start": SUPERVISED_START,
            "self_taught_threshold": 0.5,
            "discriminator": SMALL_DISCRIMINATOR,
        },
        "s4gan": {"score_threshold": 0.4707, "discriminator": SMALL_DISCRIMINATOR},
        "dst_cbc": {"supervised_start": SUPERVISED_START, "label_ratios": (0.5, 1.0), "sample_every": 3},
    }
    return method.model_copy(update=changes.get(method.kind, {}))


# Trials whose state or streams are other than those of any named method at its defaults.
VARIANTS: dict[str, dict[str, Any]] = {
    "dst_cbc going on from its best": {
        "method": DSTCBC(
            supervised_start=1,
            label_ratios=(0.5, 1.0),
            sample_every=1,
            carry="best",
            start_batch=2,
            label_height=16,
            label_width=32,
        ),
        "evaluation": Evaluation(every=1),
    },
    "french as published": {
        "method": NAMED_METHODS["french"].model_copy(update={"pairs": "two_streams", "confidence_threshold": 0.3}),
        "optimizer": Adam(learning_rate=1e-3, repeats_backbone=True),
        "schedule": Constant(),
        "unlabeled_pool": "all",
    },
    "adversarial as published": {
        "method": Adversarial(
            self_taught_start=2,
            self_taught_threshold=0.5,
            drops_adversarial_when_unconfident=True,
            discriminator=SMALL_DISCRIMINATOR,
        ),
        "optimizer": SGD(learning_rate=0.01, nesterov=True, repeats_backbone=True),
    },
}
TRIALS = (*NAMED_METHODS, *VARIANTS)
"""The names that `small_spec` knows."""


def small_spec(name: str, **changes: Any) -> TrialSpec:
    """Six float64 steps of a named method, or of a variant, on the small dataset; `changes` are fields of the spec."""
    fields = {
        "dataset": SMALL,
        "label_fraction": Fraction(1, 2),
        "network": TinyNetwork(width=4),
        "initial_weights": "random",
        "method": small_method(name) if name in NAMED_METHODS else None,
        "optimizer": SGD(learning_rate=0.01),
        "labeled_batch": 4,
        "unlabeled_batch": 4,
        "num_steps": 6,
        "precision": "float64",
        "evaluation": Evaluation(every=3),
    }
    return TrialSpec(**{**fields, **VARIANTS.get(name, {}), **changes})


def small_options(data: Path, storage: Path, **changes: Any) -> RunOptions:
    """Options for the small dataset below `data`: a record and a checkpoint at every step; `changes` are fields."""
    fields = {
        "storage": str(storage),
        "data": str(data / "data"),
        "cache": str(data / "cache"),
        "device": "cpu",
        "log_every": 1,
        "checkpoint_every": 1,
    }
    return RunOptions(**{**fields, **changes})


def small_trial(spec: TrialSpec, data: Path) -> Trial:
    """What one process trains with."""
    torch.set_num_threads(1)
    train_images, eval_images, split = open_data(spec, data / "data", data / "cache")
    device = torch.device("cpu")
    trial, _ = build_trial(spec, split, train_images, eval_images, weights=data / "weights", device=device)
    return trial


# --- hosts and keepers --------------------------------------------------------------------------------------------


class StopAt(NoHost):
    """Asks to stop once so many updates are done, and remembers what it was told."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.told: list[Progress] = []

    def report(self, progress: Progress) -> None:
        self.told.append(progress)

    def stop_requested(self, step: int) -> bool:
        return step >= self.step


class Killed(BaseException):
    """The process is gone: nothing may handle it."""


class KilledAt(NoHost):
    """Dies when so many updates are reported, before they are safe."""

    def __init__(self, step: int) -> None:
        self.step = step

    def report(self, progress: Progress) -> None:
        if progress["step"] == self.step:
            raise Killed


class MemoryKeeper(Keeper):
    """Remembers at which steps it was asked to make things safe."""

    def __init__(self) -> None:
        super().__init__(Journal((), ()), ScalarWindow())
        self.commits: list[int] = []

    def commit(self, step: int) -> None:
        self.commits.append(step)


EVERY_STEP = Cadence(log=1, checkpoint=1, evaluate=3)


def train_small(trial: Trial, first_step: int = 0, stop_at: int = 1000) -> MemoryKeeper:
    """Train, logging every step, to the end or to `stop_at`."""
    keeper = MemoryKeeper()
    train(trial, keeper, StopAt(stop_at), EVERY_STEP, first_step)
    trial.streams.close()
    return keeper


def timeless(records: list[Any]) -> list[Record]:
    """Records without their time stamps, to be compared."""
    return [record.model_copy(update={"time": 0.0}) for record in records]


def losses_of(keeper: Keeper) -> list[dict[str, float]]:
    """The training scalars, step by step."""
    return [record.scalars for record in keeper.journal.pending if isinstance(record, TrainRecord)]


def evaluations_of(keeper: Keeper) -> list[EvaluationRecord]:
    """The judgements."""
    return [record for record in keeper.journal.pending if isinstance(record, EvaluationRecord)]


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def weights_of_all(trial: Trial) -> dict[str, dict[str, Tensor]]:
    """A copy of every player's and the teacher's tensors."""
    networks = {name: player.network for name, player in trial.players.items()}
    if trial.teacher is not None:
        networks["teacher"] = trial.teacher.network
    return {name: {k: v.clone() for k, v in network.named_parameters()} for name, network in networks.items()}


def play(trial: Trial, step: int) -> Iterator[tuple[str, list[Objective]]]:
    """Do one step turn by turn as the loop does; yields before the player moves."""
    phase = phase_at(trial.method.phases, step)
    if step == phase.first_step:
        enter(phase, trial, MemoryKeeper())
    for name, objectives in turns(trial.method.objectives(trial.networks, trial.streams.at(step), step)):
        played = []
        for objective in objectives:
            objective.loss.backward()
            played.append(objective)
        yield name, played
        trial.players[name].step()
    if trial.teacher is not None and phase.has_teacher:
        trial.teacher.update(trial.players["student"].network)


# --- the contract -------------------------------------------------------------------------------------------------


class MethodContract:
    """Inherit with a fixture or parameter `name`, a key of NAMED_METHODS."""

    @pytest.fixture
    def trial(self, name: str, small_data: Path) -> Iterator[Trial]:
        """A fresh trial of four steps, of which three are asked for."""
        trial = small_trial(small_spec(name, num_steps=4), small_data)
        yield trial
        trial.streams.close()

    def test_it_trains_three_steps(self, trial: Trial) -> None:
        keeper = train_small(trial, stop_at=3)
        assert keeper.commits == [1, 2, 3]
        assert len(losses_of(keeper)) == 3
        assert all(torch.tensor(list(losses.values())).isfinite().all() for losses in losses_of(keeper))

    def test_the_third_step_plays_every_part(self, trial: Trial) -> None:
        keeper = train_small(trial, stop_at=3)
        parts = {"supervised_loss", "unlabeled_loss"} if trial.spec.method.wants_unlabeled else {"supervised_loss"}
        assert parts <= losses_of(keeper)[-1].keys()
        assert all(losses_of(keeper)[-1][part] > 0 for part in parts)

    def test_each_loss_is_a_finite_scalar_of_a_player(self, trial: Trial) -> None:
        for step in range(3):
            for name, objectives in play(trial, step):
                assert name in trial.method.players
                assert all(objective.loss.shape == () and objective.loss.isfinite() for objective in objectives)

    def test_each_scalar_is_detached(self, trial: Trial) -> None:
        for step in range(3):
            for _, objectives in play(trial, step):
                scalars = [scalar for objective in objectives for scalar in objective.scalars.values()]
                assert scalars
                assert not any(scalar.requires_grad or scalar.dim() for scalar in scalars)

    def test_only_the_named_players_weights_move(self, trial: Trial) -> None:
        for step in range(3):
            for name, _ in play(trial, step):
                before = weights_of_all(trial)
                trial.players[name].step()  # the loop's own step after this one finds no gradient and does nothing
                after = weights_of_all(trial)
                assert [part for part in before if not same_tensors(before[part], after[part])] == [name]

    def test_every_trained_weight_of_a_player_moves(self, trial: Trial) -> None:
        before = weights_of_all(trial)
        train_small(trial, stop_at=3)
        for name, player in trial.players.items():
            for key, weight in player.network.named_parameters():
                assert torch.equal(weight, before[name][key]) != weight.requires_grad, key

    def test_the_teacher_never_has_gradients(self, trial: Trial) -> None:
        train_small(trial, stop_at=3)
        assert (trial.teacher is None) == (trial.method.teacher is None)
        weights = [] if trial.teacher is None else list(trial.teacher.network.parameters())
        assert not any(weight.requires_grad or weight.grad is not None for weight in weights)
        if trial.teacher is not None:
            assert not trial.teacher(torch.rand(1, 3, 32, 64, dtype=torch.float64)).requires_grad

    def test_the_same_seed_gives_the_same_losses(self, name: str, trial: Trial, small_data: Path) -> None:
        again = small_trial(trial.spec, small_data)
        assert losses_of(train_small(again, stop_at=3)) == losses_of(train_small(trial, stop_at=3))

    def test_another_seed_gives_other_losses(self, name: str, trial: Trial, small_data: Path) -> None:
        other = small_trial(trial.spec.model_copy(update={"seed": 1, "split_seed": 0}), small_data)
        pairs = zip(losses_of(train_small(trial, stop_at=3)), losses_of(train_small(other, stop_at=3)), strict=True)
        assert all(one["supervised_loss"] != two["supervised_loss"] for one, two in pairs)

    def test_the_state_survives_saving_and_loading(self, trial: Trial, small_data: Path) -> None:
        train_small(trial, stop_at=3)
        other = small_trial(trial.spec, small_data)
        other.load_state_dict(from_bytes(to_bytes(trial.state_dict())))
        assert to_bytes(other.state_dict()) == to_bytes(trial.state_dict())

    def test_a_loaded_state_takes_the_same_next_step(self, trial: Trial, small_data: Path) -> None:
        train_small(trial, stop_at=3)
        other, unbroken = small_trial(trial.spec, small_data), small_trial(trial.spec, small_data)
        other.load_state_dict(from_bytes(to_bytes(trial.state_dict())))
        assert losses_of(train_small(other, first_step=3)) == losses_of(train_small(unbroken))[3:]
        assert to_bytes(other.state_dict()) == to_bytes(unbroken.state_dict())
