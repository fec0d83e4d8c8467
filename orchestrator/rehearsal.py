"""A run in thought: the real queue against a clock that costs nothing. Pure; knows no Ray and no storage."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.admission import Nodes, TrialQueue
from orchestrator.order import Waiting


@dataclass(frozen=True, slots=True)
class Turn:
    """One go of a trial on its devices: how long it holds them, and what is left of the trial then (None: done)."""

    seconds: float
    rest: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """When the last trial ended, the device-seconds that were used, and what never started."""

    seconds: float
    device_seconds: float
    left_out: tuple[Waiting, ...]


def as_expected(trial: Waiting) -> Turn:
    """A trial that takes what is expected of it."""
    return Turn(trial.seconds)


def rehearse(queue: TrialQueue, nodes: Nodes, play: Callable[[Waiting], Turn] = as_expected) -> Rehearsal:
    """Run a queue to its end on some nodes.

    Args:
        play: how a trial that starts really goes; it is asked again for what is left of it.
    """
    now, ends = 0.0, list[tuple[float, str]]()
    turns: dict[str, Turn] = {}
    while True:
        while (trial := queue.take(nodes, now)) is not None:
            turns[trial.trial_id] = turn = play(trial)
            heapq.heappush(ends, (now + turn.seconds, trial.trial_id))
        if not ends:
            return Rehearsal(now, queue.spent(now), queue.waiting)
        now, trial_id = heapq.heappop(ends)
        rest = turns.pop(trial_id).rest
        queue.end(trial_id, now, is_done=rest is None)
        if rest is not None:
            queue.put_back(rest)
