"""What fits where."""

import pytest

from orchestrator.resources import Placement, PlacementError, trials_at_once


@pytest.mark.parametrize(
    ("placement", "cluster", "expected"),
    [
        (Placement(), {"CPU": 2.0}, 2),
        (Placement(workers=2), {"CPU": 2.0}, 1),
        (Placement(gpus_per_worker=1.0), {"CPU": 64.0, "GPU": 8.0}, 8),
        (Placement(gpus_per_worker=0.5), {"CPU": 64.0, "GPU": 2.0}, 4),
        (Placement(workers=4, gpus_per_worker=1.0), {"CPU": 64.0, "GPU": 8.0}, 2),
        (Placement(cpus_per_worker=3), {"CPU": 8.0}, 2),
    ],
)
def test_trials_side_by_side(placement: Placement, cluster: dict[str, float], expected: int) -> None:
    assert trials_at_once(placement, cluster) == expected


def test_what_the_cluster_can_never_give_is_named() -> None:
    with pytest.raises(PlacementError, match=r"needs 4 CPU \(4 workers\), but the cluster has 2"):
        trials_at_once(Placement(workers=4), {"CPU": 2.0})


def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(PlacementError, match="needs 1 GPU.*has 0"):
        trials_at_once(Placement(gpus_per_worker=1.0), {"CPU": 2.0})


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "message"),
    [(2, 1, 0.5, "one worker only"), (1, 1, 1.5, "whole GPUs"), (0, 1, None, "at least 1"), (1, 1, -1.0, "at least 0")],
)
def test_impossible_placements_are_refused(workers: int, cpus: int, gpus: float | None, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        Placement(workers, cpus, gpus)


@pytest.mark.parametrize(
    ("device", "cluster", "gpus"),
    [("auto", {"GPU": 2.0}, 1.0), ("auto", {}, 0.0), ("cpu", {"GPU": 2.0}, 0.0), ("cuda", {}, 1.0)],
)
def test_gpus_are_settled_by_device_and_cluster(device: str, cluster: dict[str, float], gpus: float) -> None:
    assert Placement().settled(device, cluster).gpus_per_worker == gpus


def test_given_gpus_stay() -> None:
    assert Placement(gpus_per_worker=0.25).settled("auto", {"GPU": 1.0}).gpus_per_worker == 0.25
