"""A job as a RayJob manifest, and the few questions that are asked of kubectl.

The code is in the image, whose tag is the digest of the code; the user's files travel in a ConfigMap.
"""

import base64
import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import yaml

from orchestrator.submit.ledger import JobState, SubmissionRecord
from orchestrator.submit.request import Job, Nodes, SubmitError

_INPUTS = "/mixgrid/inputs"
# The head holds the drivers of trials and their helper processes, and computes nothing.
_HEAD_CPUS, _HEAD_MEMORY = "4", "16Gi"
_ENDED = {"SUCCEEDED", "FAILED", "STOPPED"}


@dataclass(frozen=True, slots=True)
class KubeOptions:
    """What is asked of Kubernetes.

    `queue` is a Kueue LocalQueue. `secret` becomes environment of every pod: keys of the storage, of MLflow.
    `token_secret` holds Ray's token under the key auth_token. `claim` is NAME:FOLDER, a volume that all pods share.
    `idle_seconds`: after which a node without work goes, where nodes come and go.
    """

    image: str | None = None
    namespace: str | None = None
    queue: str | None = None
    secret: str | None = None
    token_secret: str | None = None
    claim: str | None = None
    retries: int = 2
    idle_seconds: int = 60


def manifest(job: Job, inputs: Mapping[str, bytes], nodes: Nodes, options: KubeOptions) -> str:
    """The YAML that is applied: the user's files, where there are any, and the RayJob.

    Raises: SubmitError where pods could not see the storage, or the files are too large, or Kueue would refuse it.
    """
    _refuse_unshared(job, options)
    _refuse_queue(nodes, options)
    documents = [_inputs(job, inputs, options)] if inputs else []
    documents.append(ray_job(job, bool(inputs), nodes, options))
    return str(yaml.safe_dump_all(documents, sort_keys=False, width=100))


def _refuse_unshared(job: Job, options: KubeOptions) -> None:
    storage = job.submission.options.storage
    mount = _claim(options)[1]
    if "://" not in storage and not (mount and f"{storage}/".startswith(f"{mount.rstrip('/')}/")):
        raise SubmitError(
            f"--storage {storage} is a folder of this machine, which pods cannot see: give s3://…, or a folder on a "
            "shared volume with --claim NAME:FOLDER"
        )


def _refuse_queue(nodes: Nodes, options: KubeOptions) -> None:
    if nodes.most is not None and options.queue is not None:
        raise SubmitError(
            f"--max-nodes with --queue {options.queue}: Kueue reserves all pods of a RayJob beforehand and takes none "
            "whose nodes come and go; leave one of them out"
        )


def _claim(options: KubeOptions) -> tuple[str, str]:
    name, _, mount = (options.claim or "").partition(":")
    if options.claim is not None and not (name and mount.startswith("/")):
        raise SubmitError(f"--claim {options.claim}: give NAME:FOLDER, such as mixgrid:/mnt/mixgrid")
    return name, mount


def _inputs(job: Job, inputs: Mapping[str, bytes], options: KubeOptions) -> dict[str, Any]:
    if sum(map(len, inputs.values())) > 700_000:
        raise SubmitError("the table's files are more than a ConfigMap takes (1 MiB): build them into the image")
    encoded = {name: base64.b64encode(content).decode() for name, content in inputs.items()}
    metadata = _metadata(job, options, with_queue=False)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": encoded}


def _metadata(job: Job, options: KubeOptions, *, with_queue: bool) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "mixgrid", "mixgrid/submission": job.submission.id}
    if with_queue and options.queue is not None:
        labels["kueue.x-k8s.io/queue-name"] = options.queue
    place = {} if options.namespace is None else {"namespace": options.namespace}
    return {"name": job.name, **place, "labels": labels}


def ray_job(job: Job, has_inputs: bool, nodes: Nodes, options: KubeOptions) -> dict[str, Any]:
    """The RayJob: a cluster of its own, the run on its head, and a new cluster for every retry."""
    words = ["python", "-m", "orchestrator.cli", *job.run_words("auto", inputs=_INPUTS)]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": _metadata(job, options, with_queue=True),
        "spec": {
            "jobId": job.name,
            "entrypoint": shlex.join(words),
            "submissionMode": "K8sJobMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 3600,
            "backoffLimit": options.retries,
            "rayClusterSpec": _cluster(job, has_inputs, nodes, options),
        },
    }


def _cluster(job: Job, has_inputs: bool, nodes: Nodes, options: KubeOptions) -> dict[str, Any]:
    cpus, gpus = nodes.settled(job.submission)
    needs = {"cpu": str(cpus), "memory": nodes.memory or f"{4 * cpus + 16 * gpus}Gi"}
    needs |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    head = _pod(job, "ray-head", {"cpu": _HEAD_CPUS, "memory": _HEAD_MEMORY}, options, has_inputs=has_inputs)
    worker = _pod(job, "ray-worker", needs, options, has_inputs=False)
    auth = {"authOptions": {"mode": "token", "secretName": options.token_secret}} if options.token_secret else {}
    most = nodes.count if nodes.most is None else nodes.most
    group = {"groupName": "trials", "replicas": nodes.count, "minReplicas": nodes.count, "maxReplicas": most}
    return {
        "rayVersion": version("ray"),
        **auth,
        **({} if nodes.most is None else _autoscaling(options)),
        "headGroupSpec": {"rayStartParams": {"num-cpus": "1", "num-gpus": "0"}, "template": head},
        "workerGroupSpecs": [{**group, "rayStartParams": {}, "template": worker}],
    }


def _autoscaling(options: KubeOptions) -> dict[str, Any]:
    return {"enableInTreeAutoscaling": True, "autoscalerOptions": {"idleTimeoutSeconds": options.idle_seconds}}


def _pod(job: Job, name: str, needs: Mapping[str, str], options: KubeOptions, *, has_inputs: bool) -> dict[str, Any]:
    mounts: dict[str, Any] = {"/dev/shm": {"emptyDir": {"medium": "Memory"}}}
    claim, folder = _claim(options)
    if claim:
        mounts[folder] = {"persistentVolumeClaim": {"claimName": claim}}
    if has_inputs:
        mounts[_INPUTS] = {"configMap": {"name": job.name}}
    names = [f"volume-{number}" for number in range(len(mounts))]
    container: dict[str, Any] = {
        "name": name,
        "image": image_of(job, options),
        "resources": {"requests": dict(needs), "limits": dict(needs)},
        "volumeMounts": [{"name": n, "mountPath": path} for n, path in zip(names, mounts, strict=True)],
    }
    if options.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": options.secret}}]
    volumes = [{"name": n, **source} for n, source in zip(names, mounts.values(), strict=True)]
    return {"spec": {"containers": [container], "volumes": volumes}}


def image_of(job: Job, options: KubeOptions) -> str:
    """The image as given, else one whose tag is the digest of the code."""
    return options.image or f"mixgrid:{job.image_tag}"


def send(text: str) -> str:
    """Hand a manifest to kubectl; returns the RayJob's name. Raises: SubmitError with what it answered."""
    told = _kubectl(["apply", "--filename=-", "--output=name"], text)
    return told.split()[-1]


def _kubectl(words: list[str], text: str | None = None) -> str:
    try:
        told = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError as error:
        raise SubmitError("there is no kubectl on this machine: apply the manifest where there is") from error
    except subprocess.TimeoutExpired as error:
        raise SubmitError("kubectl gave no answer within a minute") from error
    if told.returncode != 0:
        raise SubmitError(f"kubectl {words[0]} failed: {told.stderr.strip()}")
    return told.stdout


class KubeRay:
    """Asks kubectl about RayJobs by their name, in the namespace they were sent to."""

    def state(self, record: SubmissionRecord) -> JobState:
        """Ended where the RayJob says so for good, or is gone."""
        try:
            told = _kubectl(["get", "rayjob", record.name, *_place(record), "--ignore-not-found", "--output=json"])
        except SubmitError as error:
            return JobState("unknown", str(error))
        if not told.strip():
            return JobState("ended", "there is no such RayJob")
        return state_of(json.loads(told).get("status", {}))

    def stop(self, record: SubmissionRecord, *, only_queued: bool) -> None:
        """Delete the RayJob, and its cluster with it."""
        if not only_queued or self.state(record).kind == "queued":
            _kubectl(["delete", "rayjob", record.name, *_place(record), "--ignore-not-found", "--wait=false"])

    def logs(self, record: SubmissionRecord) -> Mapping[str, str]:
        """What the submitter saw of the run."""
        return {record.name: _kubectl(["logs", f"job/{record.name}", *_place(record)])}


def state_of(status: Mapping[str, Any]) -> JobState:
    """What the status of a RayJob means."""
    job, deployment = str(status.get("jobStatus", "")), str(status.get("jobDeploymentStatus", ""))
    detail = " ".join(word for word in (deployment, job, str(status.get("message", ""))) if word)
    if deployment in ("Complete", "Failed", "ValidationFailed"):
        return JobState("ended", detail, 0 if job == "SUCCEEDED" else 1)
    return JobState("running" if job == "RUNNING" or job in _ENDED else "queued", detail)


def _place(record: SubmissionRecord) -> list[str]:
    return [f"--namespace={record.address}"] if record.address else []
