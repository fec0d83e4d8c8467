"""What a run needs of a cluster that can grow: pure arithmetic. Knows no Ray."""

from orchestrator.resources import Placement, worker_needs

Bundles = tuple[list[dict[str, float]], list[dict[str, str]]]
"""What each worker takes of its node, by Ray's names, and the labels that its node must carry."""


def workers_needed(num_trials: int, placement: Placement, *, most_slots: float, taken: int) -> int:
    """How many workers the whole cluster should have room for; it falls towards the end, so that nodes may go.

    Args:
        num_trials: those that run, and those that could start if there were devices.
        most_slots: how many workers of this run there may be at once; one trial always is tried.
        taken: workers that would fit where others compute.
    """
    if num_trials == 0:
        return 0
    if num_trials * placement.workers > most_slots:
        num_trials = max(int(most_slots // placement.workers), 1)
    return num_trials * placement.workers + taken


def taken_by_others(slots: int, free: int, running: int) -> int:
    """Workers that would fit where others compute: room on empty nodes, less what is free, less our own workers.

    While ours have been let in and do not hold their devices yet, others count for less.
    """
    return max(slots - free - running, 0)


def bundles_of(placement: Placement, num_workers: int) -> Bundles:
    """What so many workers ask for, each with its whole CPUs, as room on nodes is counted."""
    needs, labels = worker_needs(placement), placement.label_selector
    return [dict(needs) for _ in range(num_workers)], [dict(labels) for _ in range(num_workers)]
