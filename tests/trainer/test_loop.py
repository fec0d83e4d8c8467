"""The loop: what every named method promises on it, and what it promises to all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.contracts import (
    EVERY_STEP,
    MemoryKeeper,
    MethodContract,
    StopAt,
    evaluations_of,
    losses_of,
    same_tensors,
    small_spec,
    small_trial,
    train_small,
)
from trainer.host import NoHost
from trainer.journal import NonFiniteLoss
from trainer.loop import Cadence, train, turns
from trainer.methods.base import Objective, Phase, phase_at
from trainer.phases import enter
from trainer.spec import NAMED_METHODS, SGD
from trainer.trial import Player, Trial


@pytest.mark.parametrize("name", NAMED_METHODS)
class TestEveryNamedMethod(MethodContract):
    """The contract of tests/contracts.py."""


@pytest.fixture
def trial(small_data: Path) -> Iterator[Trial]:
    """ClassMix, which has a teacher from the first step."""
    trial = small_trial(small_spec("classmix"), small_data)
    yield trial
    trial.streams.close()


def with_start(small_data: Path) -> Trial:
    """ComplexMix, whose teacher comes after two steps."""
    return small_trial(small_spec("complexmix"), small_data)


def test_the_teacher_follows_the_student_after_its_step(trial: Trial) -> None:
    train_small(trial, stop_at=1)  # with the warm-up the first average is a copy
    student = trial.players["student"].network
    assert same_tensors(dict(trial.teacher.network.named_parameters()), dict(student.named_parameters()))


def test_the_second_average_lies_half_way(trial: Trial) -> None:
    student, seen = trial.players["student"].network, []
    trial.players["student"].step = lambda step=trial.players["student"].step: (
        step(),
        seen.append([weight.detach().clone() for weight in student.parameters()]),
    )
    train_small(trial, stop_at=2)
    for mine, old, new in zip(trial.teacher.network.parameters(), *seen, strict=True):
        torch.testing.assert_close(mine, (old + new) / 2, rtol=1e-12, atol=1e-15)


def test_the_teacher_rests_in_the_supervised_start(small_data: Path) -> None:
    trial = with_start(small_data)
    fresh = {name: value.clone() for name, value in trial.teacher.network.state_dict().items()}
    keeper = train_small(trial, stop_at=2)
    assert same_tensors(trial.teacher.network.state_dict(), fresh)
    assert "unlabeled_loss" not in losses_of(keeper)[-1]


def test_mixing_begins_with_a_copy_of_the_student(small_data: Path) -> None:
    trial = with_start(small_data)
    train_small(trial, stop_at=2)
    enter(phase_at(trial.method.phases, 2), trial, MemoryKeeper())
    assert same_tensors(trial.teacher.network.state_dict(), trial.players["student"].network.state_dict())
    assert trial.teacher.updates == 0


def test_only_networks_of_the_phase_are_judged(small_data: Path) -> None:
    trial = with_start(small_data)
    keeper = MemoryKeeper()
    train(trial, keeper, NoHost(), Cadence(log=1, checkpoint=100, evaluate=2), 0)
    trial.streams.close()
    judged = [(record.step, record.network) for record in evaluations_of(keeper)]
    assert judged == [(2, "student"), (4, "student"), (4, "teacher"), (6, "student"), (6, "teacher")]


def test_the_last_step_is_judged_logged_and_made_safe(trial: Trial) -> None:
    keeper = MemoryKeeper()
    assert train(trial, keeper, NoHost(), Cadence(log=4, checkpoint=5, evaluate=100), 0)
    assert keeper.commits == [5, 6]
    assert [record.step for record in keeper.journal.pending] == [4, 6, 6, 6]


def test_a_record_holds_the_means_since_the_one_before(trial: Trial, small_data: Path) -> None:
    single = losses_of(train_small(trial))
    keeper = MemoryKeeper()
    train(small_trial(trial.spec, small_data), keeper, NoHost(), Cadence(log=3, checkpoint=100, evaluate=100), 0)
    for mean, steps in zip(losses_of(keeper), (single[:3], single[3:]), strict=True):
        expected = {name: sum(step[name] for step in steps) / 3 for name in mean}
        assert mean == pytest.approx(expected, rel=1e-14)


def test_a_wish_to_stop_makes_things_safe_and_ends(trial: Trial) -> None:
    keeper = MemoryKeeper()
    assert not train(trial, keeper, StopAt(3), Cadence(log=2, checkpoint=100, evaluate=100), 0)
    assert keeper.commits == [4]  # the host is asked when something is logged


def test_a_wish_to_stop_after_the_last_step_comes_too_late(trial: Trial) -> None:
    assert train(trial, MemoryKeeper(), StopAt(6), EVERY_STEP, 0)


def test_the_host_hears_how_far_and_how_fast(trial: Trial) -> None:
    host = StopAt(100)
    train(trial, MemoryKeeper(), host, Cadence(log=4, checkpoint=100, evaluate=100), 0)
    assert [(told["step"], told["num_steps"]) for told in host.told] == [(4, 6), (6, 6)]
    assert all(told["steps_per_second"] > 0 and "supervised_loss" in told for told in host.told)


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(small_data: Path) -> None:
    trial = small_trial(small_spec("supervised", optimizer=SGD(learning_rate=1e300)), small_data)
    keeper = MemoryKeeper()
    with pytest.raises(NonFiniteLoss, match=r"supervised_loss is not finite between steps 0 and 2.*learning_rate"):
        train(trial, keeper, NoHost(), Cadence(log=100, checkpoint=2, evaluate=100), 0)
    trial.streams.close()
    assert keeper.commits == []


def test_the_learning_rate_falls_from_the_built_rate() -> None:
    network = nn.Linear(1, 1)
    player = Player(network, lambda: torch.optim.SGD(network.parameters(), lr=0.5))
    player.set_rate(0.5)
    player.set_rate(0.1)
    assert player.optimizer.param_groups[0]["lr"] == 0.05


def test_a_loaded_optimizer_keeps_the_built_rate() -> None:
    network = nn.Linear(1, 1)
    player, other = (Player(network, lambda: torch.optim.SGD(network.parameters(), lr=0.5)) for _ in range(2))
    player.set_rate(0.1)
    other.optimizer.load_state_dict(player.optimizer.state_dict())
    other.set_rate(0.5)
    assert other.optimizer.param_groups[0]["lr"] == 0.25


def test_every_step_has_the_rate_of_the_schedule(trial: Trial) -> None:
    rates = []
    player, step = trial.players["student"], trial.players["student"].step
    player.step = lambda: (rates.append([group["lr"] for group in player.optimizer.param_groups]), step())
    train_small(trial)
    expected = [(1 - done / 6) ** 0.9 for done in range(6)]
    assert rates == [[pytest.approx(0.01 * factor), pytest.approx(0.1 * factor)] for factor in expected]


def test_turns_group_consecutive_objectives_of_a_player() -> None:
    names = ["student", "student", "discriminator", "student"]
    played = [(name, len(list(parts))) for name, parts in turns(Objective(name, torch.zeros(())) for name in names)]
    assert played == [("student", 2), ("discriminator", 1), ("student", 1)]


def test_a_graph_is_freed_before_the_next_is_built() -> None:
    events = []

    def objectives() -> Iterator[Objective]:
        for part in range(2):
            events.append(f"build {part}")
            yield Objective("student", torch.tensor(float(part)))

    for _, parts in turns(objectives()):
        events.extend(f"use {int(part.loss)}" for part in parts)
    assert events == ["build 0", "use 0", "build 1", "use 1"]


@pytest.mark.parametrize(("step", "first_step"), [(0, 0), (1, 0), (2, 2), (5, 2)])
def test_a_step_belongs_to_the_phase_that_began_last(step: int, first_step: int) -> None:
    assert phase_at((Phase(0, 2), Phase(2, 4)), step).first_step == first_step


def test_the_state_names_networks_optimizers_and_teacher(trial: Trial) -> None:
    state = trial.state_dict()
    assert state.keys() == {"networks", "optimizers", "teacher", "round"}
    assert state["teacher"].keys() == {"network", "updates"}
