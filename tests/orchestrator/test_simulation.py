"""A thousand trials on 64 GPUs through the real order and admission, against what no order can beat.

How the demand is read: 64 GPUs are eight nodes of eight, as clusters are built, and a trial of 2 or 4 stays on one of
them. Plain FIFO is the order of arrival in which whoever is first and finds no room holds up all behind. Its loss is
mostly that of waiting for room on one node: over 40 seeds it ends at 1.080 to 1.227 of the bound (median 1.099; one
seed at 1.0798 slips through), ours at 1.005 to 1.011. Were the 64 GPUs one pool, as the driver counts workers, which
may spread over nodes, FIFO would end at 1.028 to 1.175 (median 1.045) and pass 39 of 40 times, ours at 1.006 to 1.019:
there 8 % do not tell the two orders apart, and the test asks only that ours is the better one.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.admission import Nodes, Running, Start, TrialQueue, next_to_start
from orchestrator.order import Waiting
from orchestrator.rehearsal import Rehearsal, Turn, rehearse

NODES = (8,) * 8
POOL = (64,)
NUM_TRIALS = 1000
# The median trial takes one unit of time.
CHECKPOINT_EVERY = 0.25
GPU_LIVES = 10.0
SEEDS = range(8)


class Cluster:
    """Trials of log-normal length, known to 30 %, and GPUs that are taken away from them now and then."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.left = {str(number): self._random.lognormvariate(0.0, 0.5) for number in range(NUM_TRIALS)}
        self.longest = max(self.left.values())
        self.trials = [
            Waiting(name, self._random.choice((1, 2, 4)), seconds * self._random.uniform(0.7, 1.3))
            for name, seconds in self.left.items()
        ]
        self.work = sum(trial.devices * self.left[trial.trial_id] for trial in self.trials)
        self.lost = 0.0
        self.num_preempted = 0

    def play(self, trial: Waiting) -> Turn:
        """How a trial goes on: to its end, or until one of its GPUs is taken; then it goes on from a checkpoint."""
        left = self.left[trial.trial_id]
        lives = self._random.expovariate(trial.devices / GPU_LIVES)
        if lives >= left:
            self.left[trial.trial_id] = 0.0
            return Turn(left)
        kept = math.floor(lives / CHECKPOINT_EVERY) * CHECKPOINT_EVERY
        self.lost += trial.devices * (lives - kept)
        self.num_preempted += 1
        self.left[trial.trial_id] = left - kept
        return Turn(lives, replace(trial, seconds=trial.seconds * (left - kept) / left))

    def over_bound(self, run: Rehearsal) -> float:
        """Makespan over what no order can beat."""
        return run.seconds / max((self.work + self.lost) / sum(NODES), self.longest)


def first_come(waiting: Sequence[Waiting], running: Sequence[Running], nodes: Nodes) -> Start | None:
    """Plain FIFO: the first in line, or nobody."""
    free = list(nodes)
    for trial in running:
        free[trial.node] -= trial.devices
    fitting = [node for node, number in enumerate(free) if waiting and number >= waiting[0].devices]
    return Start(waiting[0], min(fitting, key=lambda node: free[node])) if fitting else None


class Fifo(TrialQueue):
    """A queue in the order of arrival."""

    def __init__(self, waiting: Sequence[Waiting]) -> None:
        super().__init__(waiting, choose=first_come)
        self._arrange = list
        self._waiting = list(waiting)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_run_ends_within_eight_percent_of_what_no_order_can_beat(seed: int) -> None:
    cluster = Cluster(seed)
    run = rehearse(TrialQueue(cluster.trials), NODES, cluster.play)
    assert run.left_out == ()
    assert cluster.num_preempted > 50
    assert set(cluster.left.values()) == {0.0}
    assert run.device_seconds == pytest.approx(cluster.work + cluster.lost)
    assert 1.0 <= cluster.over_bound(run) <= 1.08


@pytest.mark.parametrize("seed", SEEDS)
def test_plain_fifo_does_not(seed: int) -> None:
    cluster = Cluster(seed)
    run = rehearse(Fifo(cluster.trials), NODES, cluster.play)
    assert set(cluster.left.values()) == {0.0}
    assert cluster.over_bound(run) > 1.08


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_in_one_pool_fifo_would_be_within_eight_percent_as_well_and_still_the_worse(seed: int) -> None:
    ours, fifo = Cluster(seed), Cluster(seed)
    over = ours.over_bound(rehearse(TrialQueue(ours.trials), POOL, ours.play))
    assert over < fifo.over_bound(rehearse(Fifo(fifo.trials), POOL, fifo.play)) < 1.08
    assert over < 1.02


def test_no_device_is_given_twice() -> None:
    cluster, held = Cluster(0), dict[str, tuple[int, int]]()

    class Watched(TrialQueue):
        def end(self, trial_id: str, now: float, *, is_done: bool = True) -> None:
            del held[trial_id]
            super().end(trial_id, now, is_done=is_done)

    def watched(waiting: Sequence[Waiting], running: Sequence[Running], nodes: Nodes) -> Start | None:
        start = next_to_start(waiting, running, nodes)
        if start is not None:
            held[start.trial.trial_id] = (start.node, start.trial.devices)
            on_node = sum(devices for node, devices in held.values() if node == start.node)
            assert on_node <= nodes[start.node]
        return start

    rehearse(Watched(cluster.trials, choose=watched), NODES, cluster.play)
    assert held == {}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_budget_is_kept_to_what_forecasts_are_good_for(seed: int) -> None:
    cluster = Cluster(seed)
    budget = cluster.work / 3
    layered = [replace(trial, layer=number % 5) for number, trial in enumerate(cluster.trials)]
    run = rehearse(TrialQueue(layered, budget=budget), NODES, cluster.play)
    assert 0.95 * budget <= run.device_seconds <= 1.03 * budget
    ended = {name for name, left in cluster.left.items() if left == 0.0}
    assert all(trial.trial_id in ended for trial in layered if trial.layer == 0)


def test_without_a_word_otherwise_trials_take_what_is_expected() -> None:
    trials = [Waiting("a", 1, 3.0), Waiting("b", 2, 2.0), Waiting("c", 1, 1.0)]
    assert rehearse(TrialQueue(trials), [2]) == Rehearsal(5.0, 8.0, ())  # b on both, then a beside c
    assert rehearse(TrialQueue(trials), [1]).left_out == (Waiting("b", 2, 2.0),)
