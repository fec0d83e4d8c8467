"""What a run needs of a cluster that can grow, from the state of its queue."""

from math import inf

import pytest

from orchestrator.demand import bundles_of, taken_by_others, workers_needed
from orchestrator.resources import Placement

TWO_RANKS = Placement(workers=2, cpus_per_worker=3, gpus_per_worker=1.0, node_labels="gpu=h100,zone=a")


@pytest.mark.parametrize(
    ("num_trials", "most_slots", "taken", "expected"),
    [
        (5, inf, 0, 10),
        (5, 6, 0, 6),
        (5, 7, 0, 6),
        (2, 6, 0, 4),
        (5, 1, 0, 2),
        (5, 6, 3, 9),
        (0, inf, 0, 0),
        (0, inf, 3, 0),
    ],
    ids=["all", "at most three", "no half trial", "fewer than may be", "one always", "beside others", "over", "alone"],
)
def test_room_is_needed_for_the_workers_of_whole_trials_beside_what_others_take(
    num_trials: int, most_slots: float, taken: int, expected: int
) -> None:
    assert workers_needed(num_trials, TWO_RANKS, most_slots=most_slots, taken=taken) == expected


def test_the_demand_of_a_grid_falls_with_what_is_left_of_it() -> None:
    left = [workers_needed(n, Placement(gpus_per_worker=1.0), most_slots=3, taken=0) for n in (5, 4, 3, 2, 1, 0)]
    assert left == [3, 3, 3, 2, 1, 0]


def test_what_others_take_is_what_is_neither_free_nor_ours() -> None:
    assert taken_by_others(slots=8, free=2, running=1) == 5
    assert taken_by_others(slots=8, free=0, running=8) == 0
    assert taken_by_others(slots=8, free=8, running=3) == 0, "they were let in and hold nothing yet"
    assert taken_by_others(slots=0, free=0, running=2) == 0, "their nodes went"


def test_every_worker_is_a_bundle_of_whole_cpus_with_the_labels_of_its_node() -> None:
    needs, labels = bundles_of(TWO_RANKS, 3)
    assert needs == [{"CPU": 3.0, "GPU": 1.0}] * 3
    assert labels == [{"gpu": "h100", "zone": "a"}] * 3
    needs[0]["CPU"] = 9.0
    assert needs[1]["CPU"] == 3.0


def test_a_share_of_a_gpu_and_a_worker_on_cpus_ask_for_what_they_take() -> None:
    assert bundles_of(Placement(gpus_per_worker=0.5), 1) == ([{"CPU": 1.0, "GPU": 0.5}], [{}])
    assert bundles_of(Placement(gpus_per_worker=0.0), 1) == ([{"CPU": 1.0}], [{}])
    assert bundles_of(TWO_RANKS, 0) == ([], [])
