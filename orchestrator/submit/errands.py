"""How each backend takes a job: the only place where its name picks one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.table import Cell
from orchestrator.submit import kuberay, ray_jobs, slurm
from orchestrator.submit.kuberay import KubeOptions, KubeRay
from orchestrator.submit.ledger import Backend, BackendName, SubmissionRecord, file_of
from orchestrator.submit.ray_jobs import RayJobs, RayOptions
from orchestrator.submit.request import Job, Nodes, SubmitError
from orchestrator.submit.slurm import Slurm
from orchestrator.submit.slurm_options import SlurmOptions
from orchestrator.submit.slurm_script import render_allocation, render_array
from orchestrator.submit.snapshot import Snapshot
from trainer.storage import Storage


@dataclass(frozen=True, slots=True)
class Backends:
    """The options of every backend; one of them is asked."""

    ray: RayOptions
    slurm: SlurmOptions
    kuberay: KubeOptions


@dataclass(frozen=True, slots=True)
class Errand:
    """A job as its backend takes it: what is told of it beforehand, and two acts.

    `check` raises SubmitError where the backend would not do, before anything is written; `send` returns the backend's
    own id.
    """

    backend: BackendName
    address: str
    told: str
    send: Callable[[], str]
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be carried: a job, its snapshot, the cells that are not done, and the storage they go to."""

    job: Job
    snapshot: Snapshot
    cells: Sequence[Cell]
    storage: Storage


def errand_for(name: BackendName, load: Load, nodes: Nodes, backends: Backends, say: Callable[[str], None]) -> Errand:
    """A job made ready for its backend. Raises: SubmitError where it cannot go there as asked."""
    if name == "ray":
        return _to_ray(load, nodes, backends.ray, say)
    if nodes.most is not None and name != "kuberay":
        raise SubmitError(f"--max-nodes {nodes.most} is for kuberay; a Ray cluster's own autoscaler: --wait-for-nodes")
    if labels := load.job.submission.placement.node_labels:
        raise SubmitError(
            f"--node-labels {labels} are those of a Ray cluster: on Slurm say --sbatch --constraint=…, on Kubernetes "
            "give the pods a node selector in the printed manifest"
        )
    if name == "slurm":
        if load.job.submission.waits_for_nodes:
            raise SubmitError("--wait-for-nodes is for Ray's autoscaler: Slurm brings no nodes to a job that runs")
        return _to_slurm(load, nodes, backends.slurm, say)
    return _to_kubernetes(load, nodes, backends.kuberay)


def _to_ray(load: Load, nodes: Nodes, options: RayOptions, say: Callable[[str], None]) -> Errand:
    address = ray_jobs.job_address(options.address)
    told = json.dumps({"address": address, **ray_jobs.request_of(load.job, nodes, options)}, indent=1) + "\n"
    return Errand(
        "ray",
        address,
        told,
        send=lambda: ray_jobs.send(load.job, load.snapshot, nodes, options),
        check=lambda: ray_jobs.check(load.job, load.snapshot, nodes, options, say),
    )


def _to_slurm(load: Load, nodes: Nodes, options: SlurmOptions, say: Callable[[str], None]) -> Errand:
    folder = shared_folder(load.storage)
    options = replace(options, at_once=load.job.submission.max_concurrent)
    if options.shape == "array":
        script = render_array(load.job, load.cells, nodes, options, str(folder))
    else:
        script = render_allocation(load.job, nodes, options, str(folder))

    def send() -> str:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{load.job.name}.zip").write_bytes(load.snapshot.zipped())
        return slurm.send(script, say)

    return Errand("slurm", "", script.told(), send)


def _to_kubernetes(load: Load, nodes: Nodes, options: KubeOptions) -> Errand:
    text = kuberay.manifest(load.job, load.snapshot.inputs, nodes, options)
    return Errand("kuberay", options.namespace or "", text, lambda: kuberay.send(text))


def backend_of(record: SubmissionRecord, storage: Storage) -> Backend:
    """Whom to ask about a job."""
    if record.backend == "ray":
        return RayJobs()
    return Slurm(shared_folder(storage)) if record.backend == "slurm" else KubeRay()


def shared_folder(storage: Storage) -> Path:
    """A folder that the machines of a Slurm cluster share: beside the trials, else in the user's state folder."""
    if storage.is_local:
        return Path(storage.locate(file_of("x", "zip"))).parent
    return Path.home() / ".local" / "state" / "mixgrid" / "submissions"
