"""What a trial needs and what fits where: pure arithmetic, no Ray."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import floor

from trainer.spec import TrialSpec

# A Tune trial is only the driver of its workers. It takes a sliver of a CPU, and each worker leaves a sliver: on two
# CPUs two workers and their driver fit, where 2 x 1 + 0.001 would wait for ever.
DRIVER_CPUS = 0.001
_LEFT_BY_WORKER = 0.01
# Its process, which has imported Ray Train and pandas and controls the workers, was measured at 680 MB.
DRIVER_BYTES = 700 * 2**20
_LABEL = re.compile(r"[\w.-]+(/[\w.-]+)?=[\w.-]+")


class PlacementError(ValueError):
    """A placement that cannot be: what was asked for, what there is."""


def drivers_that_fit(memory: float) -> int:
    """How many trials can be driven from a node with so many bytes for Ray; one always is tried."""
    return max(1, int(memory // DRIVER_BYTES))


@dataclass(frozen=True, slots=True)
class Placement:
    """Devices of one trial: workers (DDP ranks), and CPUs and GPUs of each; None leaves the GPUs to `settled`.

    `node_labels`, as in "gpu=h100,zone=a", are those that a node must carry in Ray to get a worker; "" takes any node.
    """

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None
    node_labels: str = ""

    def __post_init__(self) -> None:
        for label in self.node_labels.split(",") if self.node_labels else ():
            if not _LABEL.fullmatch(label):
                raise PlacementError(f"--node-labels {self.node_labels}: give NAME=VALUE, several with commas between")
        gpus = self.gpus_per_worker or 0.0
        if self.workers < 1 or self.cpus_per_worker < 1 or gpus < 0:
            raise PlacementError("--workers and --cpus-per-worker are at least 1, --gpus-per-worker at least 0")
        if 0 < gpus < 1 and self.workers > 1:
            raise PlacementError(
                f"--gpus-per-worker {gpus} with --workers {self.workers}: a fraction of a GPU goes with one worker "
                "only, since NCCL refuses two ranks on one device"
            )
        if gpus > 1 and gpus != floor(gpus):
            raise PlacementError(f"--gpus-per-worker {gpus}: above one, whole GPUs only")

    def settled(self, device: str, cluster: Mapping[str, float]) -> "Placement":
        """With GPUs decided: as given, else none on "cpu", one on "cuda", on "auto" one where the cluster has any."""
        if self.gpus_per_worker is not None:
            return self
        wants_gpu = device == "cuda" or (device == "auto" and cluster.get("GPU", 0.0) >= 1)
        return replace(self, gpus_per_worker=1.0 if wants_gpu else 0.0)

    @property
    def label_selector(self) -> dict[str, str]:
        """The labels that a node must carry, each with its value."""
        return dict(label.split("=", 1) for label in self.node_labels.split(",")) if self.node_labels else {}

    @property
    def worker_resources(self) -> dict[str, float]:
        """What one worker asks of Ray."""
        gpus = {"GPU": self.gpus_per_worker} if self.gpus_per_worker else {}
        return {"CPU": self.cpus_per_worker - _LEFT_BY_WORKER, **gpus}

    @property
    def needs(self) -> dict[str, float]:
        """What one trial takes of the cluster, by Ray's names."""
        needs = {"CPU": float(self.workers * self.cpus_per_worker)}
        if self.gpus_per_worker:
            needs["GPU"] = self.workers * self.gpus_per_worker
        return needs


def refuse_unsaid_devices(placement: Placement, device: str) -> None:
    """Raises: PlacementError where the nodes there are would decide about GPUs, and nodes are still to come."""
    if placement.gpus_per_worker is None and device == "auto":
        raise PlacementError(
            "--wait-for-nodes cannot tell by nodes that are not there whether trials take GPUs: say --device cuda, "
            "--device cpu or --gpus-per-worker N"
        )


def check_batches(specs: Iterable[TrialSpec], workers: int) -> None:
    """Refuse a number of workers that does not divide every global batch. Raises: PlacementError."""
    for spec in specs:
        batches = {"labeled_batch": spec.labeled_batch}
        if spec.method.wants_unlabeled:
            batches["unlabeled_batch"] = spec.unlabeled_batch
        for name, batch in batches.items():
            if batch % workers:
                allowed = ", ".join(str(n) for n in range(1, min(batch, 1024) + 1) if batch % n == 0)
                raise PlacementError(
                    f"--workers {workers} does not divide {name} {batch} of {spec.method.name}: the number must not "
                    f"depend on the devices, so use {allowed} workers, or change the batch (--set {name}=…)"
                )


def refuse_misfits(placement: Placement, cluster: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> None:
    """Raises: PlacementError naming what the cluster, as it is, cannot give a single trial."""
    for name, need in placement.needs.items():
        if cluster.get(name, 0.0) < need:
            raise PlacementError(
                f"a trial needs {need:g} {name} ({placement.workers} workers), but the cluster has "
                f"{cluster.get(name, 0.0):g}: change --workers, --cpus-per-worker or --gpus-per-worker, or add nodes"
            )
    if (slots := worker_slots(placement, nodes)) < placement.workers:
        worker = " and ".join(f"{need:g} {name}" for name, need in worker_needs(placement).items())
        raise PlacementError(
            f"a trial needs {placement.workers} workers of {worker}, each on one node, but the nodes have room for "
            f"{slots}: change --workers, --cpus-per-worker or --gpus-per-worker, or add nodes"
        )


def worker_slots(placement: Placement, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many workers fit on nodes that are empty. A worker stays on one node, a trial may spread over several."""
    return sum(_times(worker_needs(placement), node) for node in nodes)


def free_slots(placement: Placement, available: Mapping[str, float]) -> int:
    """How many more workers what is free in the whole cluster is enough for."""
    return _times(placement.worker_resources, available)


def devices_of(placement: Placement) -> float:
    """GPUs of a worker, a share counting as such; 1 for a worker that computes on CPUs."""
    return placement.gpus_per_worker or 1.0


def worker_needs(placement: Placement) -> dict[str, float]:
    """What one worker takes of its node where room is counted, by Ray's names."""
    return {name: need / placement.workers for name, need in placement.needs.items()}


def _times(needs: Mapping[str, float], given: Mapping[str, float]) -> int:
    return min(floor(given.get(name, 0.0) / need + 1e-9) for name, need in needs.items())
