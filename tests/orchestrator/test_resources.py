"""What fits where."""

import pytest

from orchestrator.resources import (
    Placement,
    PlacementError,
    devices_of,
    drivers_that_fit,
    free_slots,
    refuse_misfits,
    worker_slots,
)


@pytest.mark.parametrize(
    ("placement", "nodes", "expected"),
    [
        (Placement(), [{"CPU": 2.0}], 2),
        (Placement(gpus_per_worker=1.0), [{"CPU": 64.0, "GPU": 8.0}, {"CPU": 3.0, "GPU": 8.0}, {"CPU": 9.0}], 11),
        (Placement(gpus_per_worker=0.5), [{"CPU": 64.0, "GPU": 2.0}], 4),
        (Placement(workers=4, gpus_per_worker=1.0), [{"CPU": 64.0, "GPU": 8.0}], 8),
        (Placement(cpus_per_worker=3), [{"CPU": 8.0}, {"CPU": 8.0}], 4),
        (Placement(), [], 0),
    ],
)
def test_workers_stay_on_one_node(placement: Placement, nodes: list[dict[str, float]], expected: int) -> None:
    assert worker_slots(placement, nodes) == expected


def test_what_is_free_beside_a_trial_that_runs_is_enough_for_the_others() -> None:
    used = 0.99 + 0.001  # a worker and the process that drives it
    assert free_slots(Placement(), {"CPU": 2.0}) == 2
    assert free_slots(Placement(), {"CPU": 2.0 - used}) == 1
    assert free_slots(Placement(), {"CPU": 2.0 - 2 * used}) == 0
    assert free_slots(Placement(gpus_per_worker=1.0), {"CPU": 9.0}) == 0


def test_what_the_cluster_cannot_give_is_named() -> None:
    with pytest.raises(PlacementError, match=r"needs 4 CPU \(4 workers\), but the cluster has 2"):
        refuse_misfits(Placement(workers=4), {"CPU": 2.0}, [{"CPU": 2.0}])
    with pytest.raises(PlacementError, match="needs 1 GPU.*has 0"):
        refuse_misfits(Placement(gpus_per_worker=1.0), {"CPU": 2.0}, [{"CPU": 2.0}])


def test_nodes_too_small_for_a_worker_are_named_though_the_sum_is_enough() -> None:
    with pytest.raises(PlacementError, match="2 workers of 3 CPU, each on one node, but the nodes have room for 0"):
        refuse_misfits(Placement(workers=2, cpus_per_worker=3), {"CPU": 6.0}, [{"CPU": 2.0}] * 3)
    refuse_misfits(Placement(workers=2, cpus_per_worker=3), {"CPU": 6.0}, [{"CPU": 3.0}] * 2)


def test_a_share_of_a_gpu_counts_as_such_and_cpus_as_one_device() -> None:
    counted = [devices_of(Placement(gpus_per_worker=gpus)) for gpus in (0.5, 2.0, 0.0)]
    assert counted == [0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "message"),
    [(2, 1, 0.5, "one worker only"), (1, 1, 1.5, "whole GPUs"), (0, 1, None, "at least 1"), (1, 1, -1.0, "at least 0")],
)
def test_impossible_placements_are_refused(workers: int, cpus: int, gpus: float | None, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        Placement(workers, cpus, gpus)


@pytest.mark.parametrize("labels", ["h100", "gpu=", "=h100", "gpu=!h100", "gpu=in(a,b)", "gpu=h100,", "gpu = h100"])
def test_labels_are_names_with_values(labels: str) -> None:
    with pytest.raises(PlacementError, match="give NAME=VALUE"):
        Placement(node_labels=labels)


def test_labels_select_nodes_by_name_and_value() -> None:
    assert Placement().label_selector == {}
    asked = Placement(node_labels="ray.io/accelerator-type=H100,zone=a-1")
    assert asked.label_selector == {"ray.io/accelerator-type": "H100", "zone": "a-1"}


@pytest.mark.parametrize(
    ("device", "cluster", "gpus"),
    [("auto", {"GPU": 2.0}, 1.0), ("auto", {}, 0.0), ("cpu", {"GPU": 2.0}, 0.0), ("cuda", {}, 1.0)],
)
def test_gpus_are_settled_by_device_and_cluster(device: str, cluster: dict[str, float], gpus: float) -> None:
    assert Placement().settled(device, cluster).gpus_per_worker == gpus


def test_given_gpus_stay() -> None:
    assert Placement(gpus_per_worker=0.25).settled("auto", {"GPU": 1.0}).gpus_per_worker == 0.25


@pytest.mark.parametrize(("gigabytes", "count"), [(0, 1), (0.5, 1), (1.5, 2), (64, 93)])
def test_trials_are_driven_as_far_as_memory_goes_and_one_always(gigabytes: float, count: int) -> None:
    assert drivers_that_fit(gigabytes * 2**30) == count
