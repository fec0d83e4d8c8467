"""What is done between phases: best weights, optimizers, labels of the pool; and the loop that asks for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.contracts import MemoryKeeper, StopAt, same_tensors, small_method, small_spec, small_trial
from trainer import loop
from trainer.data.pool_labels import PoolLabels, pack
from trainer.loop import Cadence, evaluation_record, rate_factor, train
from trainer.methods.base import Action, Phase, PoolPart, phase_at
from trainer.phases import at_work, enter
from trainer.records import EvaluationRecord
from trainer.spec import SGD, Evaluation
from trainer.trial import Best, Trial


def dst_cbc(small_data: Path, **fields: Any) -> Trial:
    """Two supervised steps and two rounds of two steps; `fields` are the method's."""
    method = small_method("dst_cbc").model_copy(update=fields)
    changes = {"method": method, "optimizer": SGD(learning_rate=0.1), "evaluation": Evaluation(every=1)}
    return small_trial(small_spec("dst_cbc", **changes), small_data)


@pytest.fixture
def trial(small_data: Path) -> Iterator[Trial]:
    """DST-CBC that goes on from its best weights."""
    trial = dst_cbc(small_data, carry="best")
    yield trial
    trial.streams.close()


def weights_of(trial: Trial) -> dict[str, Tensor]:
    """A copy of the student's state."""
    return {name: value.clone() for name, value in trial.players["student"].network.state_dict().items()}


def disturb(trial: Trial) -> None:
    """Other weights than before."""
    with torch.no_grad():
        for weight in trial.players["student"].network.parameters():
            weight.add_(1.0)


def judged(right: int, network: str = "student", step: int = 1) -> EvaluationRecord:
    """A record of so many right pixels of ten for each of two classes."""
    return evaluation_record(network, step, torch.tensor([[right, 10 - right], [10 - right, right]]), (1, 20))


def entered(trial: Trial, *actions: Action) -> None:
    """Enter a phase of these actions that begins after two updates."""
    enter(Phase(2, 2, actions), trial, MemoryKeeper())


def train_judged(trial: Trial, scores: list[int], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Train, judged after every step as `scores` has it; the student's state after every step."""
    states: list[dict[str, Tensor]] = []

    def judge(_trial: Trial, _phase: Phase, step: int, _alive: Any) -> list[EvaluationRecord]:
        states.append(weights_of(trial))
        return [judged(scores[step - 1], step=step), judged(10, "teacher", step)]

    monkeypatch.setattr(loop, "judge", judge)
    train(trial, MemoryKeeper(), StopAt(100), Cadence(log=1, checkpoint=100, evaluate=1), 0)
    return states


# --- the best weights ---------------------------------------------------------------------------------------------


def test_the_weights_of_the_best_judgement_come_back_once(trial: Trial) -> None:
    best = weights_of(trial)
    trial.remember(judged(7))
    disturb(trial)
    for right in (7, 6):  # as good is not better
        trial.remember(judged(right))
    entered(trial, "carry_best")
    assert same_tensors(weights_of(trial), best)
    assert trial.best is None


def test_a_better_judgement_takes_the_place_of_the_best(trial: Trial) -> None:
    trial.remember(judged(6))
    disturb(trial)
    better = weights_of(trial)
    trial.remember(judged(8))
    disturb(trial)
    entered(trial, "carry_best")
    assert same_tensors(weights_of(trial), better)


def test_without_a_judgement_the_last_weights_go_on(trial: Trial) -> None:
    before = weights_of(trial)
    entered(trial, "carry_best")
    assert same_tensors(weights_of(trial), before)


def test_a_teachers_judgement_is_no_reason_to_remember_the_student(trial: Trial) -> None:
    trial.remember(judged(9, "teacher"))
    assert trial.best is None


def test_running_statistics_are_among_the_best_weights(trial: Trial) -> None:
    trial.remember(judged(5))
    assert trial.best is not None
    assert trial.best.weights.keys() == trial.players["student"].network.state_dict().keys()


def test_a_judgement_without_a_number_loses_against_any(trial: Trial) -> None:
    trial.remember(judged(5).model_copy(update={"mean_iou": None}))
    disturb(trial)
    trial.remember(judged(1))
    assert trial.best is not None
    assert same_tensors(trial.best.weights, weights_of(trial))


def test_the_best_of_a_phase_survives_saving(trial: Trial, small_data: Path) -> None:
    trial.remember(judged(6))
    other = dst_cbc(small_data, carry="best")
    other.load_state_dict(trial.state_dict())
    assert isinstance(other.best, Best)
    assert trial.best is not None
    assert other.best.mean_iou == trial.best.mean_iou
    assert same_tensors(other.best.weights, trial.best.weights)


@pytest.mark.parametrize(("carry", "labelled_after"), [("best", (1, 4)), ("last", (2, 4))])
def test_each_round_labels_the_pool_with_the_weights_it_starts_from(
    carry: str, labelled_after: tuple[int, int], small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, used = dst_cbc(small_data, carry=carry), []
    label_pool = trial.method.label_pool
    monkeypatch.setattr(
        trial.method, "label_pool", lambda *given: (used.append(weights_of(trial)), label_pool(*given))[1]
    )
    # The start is best after its first step. That the first round is worse matters not: each phase has its own best.
    states = train_judged(trial, [9, 8, 1, 2, 5, 4], monkeypatch)
    assert len(used) == 2
    for found, step in zip(used, labelled_after, strict=True):
        assert same_tensors(found, states[step - 1])
    assert (trial.best is not None) == (carry == "best")
    if trial.best is not None:
        assert same_tensors(trial.best.weights, states[4])


# --- optimizers and schedules -------------------------------------------------------------------------------------


def test_a_restart_forgets_momentum_and_keeps_rates_and_weights(small_data: Path) -> None:
    trial = small_trial(small_spec("adversarial"), small_data)
    train(trial, MemoryKeeper(), StopAt(2), Cadence(log=1, checkpoint=100, evaluate=100), 0)
    before = weights_of(trial)
    entered(trial, "restart_optimizers")
    fresh = small_trial(trial.spec, small_data)
    for name, player in trial.players.items():
        assert not player.optimizer.state
        assert player.optimizer.state_dict() == fresh.players[name].optimizer.state_dict()
        held = {id(weight) for group in player.optimizer.param_groups for weight in group["params"]}
        assert held == {id(weight) for weight in player.network.parameters() if weight.requires_grad}
    assert same_tensors(weights_of(trial), before)


def test_the_learning_rate_restarts_with_every_round(small_data: Path) -> None:
    trial, rates, momenta = dst_cbc(small_data), [], []
    player, step = trial.players["student"], trial.players["student"].step

    def recorded() -> None:
        rates.append(player.optimizer.param_groups[0]["lr"])
        momenta.append(bool(player.optimizer.state))
        step()

    player.step = recorded  # type: ignore[method-assign]
    train(trial, MemoryKeeper(), StopAt(100), Cadence(log=1, checkpoint=100, evaluate=100), 0)
    assert rates == [pytest.approx(0.1 * (1 - done / 2) ** 0.9) for done in (0, 1, 0, 1, 0, 1)]
    assert momenta == [False, True] * 3


@pytest.mark.parametrize(("step", "factor"), [(4, 1.0), (5, 0.5**0.9)])
def test_a_schedule_within_a_phase_counts_from_its_first_step(step: int, factor: float, trial: Trial) -> None:
    assert rate_factor(trial, Phase(4, 2, restarts_schedule=True), step) == pytest.approx(factor)
    assert rate_factor(trial, Phase(4, 2), step) == pytest.approx((1 - step / 6) ** 0.9)


# --- labels of the pool -------------------------------------------------------------------------------------------


def test_the_student_labels_at_work_and_goes_on_training(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    student, seen = trial.players["student"].network, []

    def label_pool(network: torch.nn.Module, pool: PoolPart, step: int) -> PoolLabels:
        seen.append((network is student, network.training, torch.is_grad_enabled(), step, sorted(pool.names)))
        maps = {name: pack(np.full((32, 64), 2, np.uint8)) for name in pool.names}
        return PoolLabels(32, 64, maps, {})

    monkeypatch.setattr(trial.method, "label_pool", label_pool)
    before = trial.streams.at(2)["unlabeled"]
    entered(trial, "label_pool")
    ((is_student, training, with_gradient, step, names),) = seen
    assert (is_student, training, with_gradient, step, len(names)) == (True, False, False, 2, 8)
    assert student.training
    assert torch.is_grad_enabled()
    after = trial.streams.at(2)["unlabeled"]
    assert torch.equal(after.image, before.image)
    assert ((before.label == 255).all(), (after.label == 2).all()) == (True, True)
    assert trial.labels_digest is not None


def test_an_error_at_work_leaves_the_mode_as_it_was() -> None:
    network = torch.nn.Linear(1, 1)
    with pytest.raises(KeyError), at_work(network):
        raise KeyError
    assert network.training


def test_actions_are_done_in_their_order(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    actions: dict[str, Any] = {name: lambda *_, name=name: done.append(name) for name in ("carry_best", "label_pool")}
    monkeypatch.setattr("trainer.phases.ACTIONS", actions)
    entered(trial, "label_pool", "carry_best", "label_pool")
    assert done == ["label_pool", "carry_best", "label_pool"]


def test_a_start_reads_its_own_batch_and_rounds_read_both_halves(small_data: Path) -> None:
    trial = dst_cbc(small_data, start_batch=6)
    sizes = [{name: len(batch.image) for name, batch in trial.streams.at(step).items()} for step in (0, 1, 2, 5)]
    trial.streams.close()
    assert sizes == [{"start": 6}] * 2 + [{"labeled": 4, "unlabeled": 4}] * 2
    assert phase_at(trial.method.phases, 1).streams == ("start",)
