"""A job for a Ray cluster's job server: what is sent, the probe that goes before it, and questions about it.

One of the files that know Ray. Run as a program it is the probe itself, on the cluster.
"""

import json
import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator.submit.ledger import JobState, SubmissionRecord, file_of
from orchestrator.submit.request import Job, Nodes, SubmitError
from orchestrator.submit.snapshot import Snapshot
from orchestrator.submit.tracker import problem_with
from trainer.data.published import FOLDER as PUBLISHED_FOLDER
from trainer.remote import without_keys
from trainer.storage import Storage

_LIBRARIES = ("ray", "torch", "pydantic", "pyarrow")
_MARK = "mixgrid probe: "
_PROBE_SECONDS = 300.0
_DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True, slots=True)
class RayOptions:
    """What is asked of a Ray cluster: the address of its job server, and variables of here that the job needs too."""

    address: str | None = None
    env: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """The variables with their values. Raises: SubmitError where one is not set here."""
        missing = [name for name in self.env if name not in os.environ]
        if missing:
            raise SubmitError(f"--env {missing[0]}: there is no such variable here")
        return {name: os.environ[name] for name in self.env}


def job_address(given: str | None) -> str:
    """Where the job server is: as given, else as the environment says, else on this machine.

    Raises: SubmitError where both speak and differ, since Ray's client would follow the environment.
    """
    told = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)
    if given and told and given != told:
        raise SubmitError(f"--address {given}, but {' or '.join(_VARIABLES)} says {told}: unset it, or leave one out")
    return given or told or _DEFAULT_ADDRESS


def request_of(job: Job, nodes: Nodes, options: RayOptions) -> dict[str, Any]:
    """What the job server gets, but for the snapshot's folder and the values of variables."""
    return {
        "submission_id": job.name,
        "entrypoint": shlex.join([_python(nodes), "-m", "orchestrator.cli", *job.run_words("auto")]),
        "runtime_env": {"working_dir": f"snapshot {job.digest[:12]}", "env_vars": dict.fromkeys(options.env, "…")},
        "metadata": {"mixgrid_table": job.submission.table.name, "mixgrid_snapshot": job.digest},
    }


def _python(nodes: Nodes) -> str:
    return nodes.python or "python"


def send(job: Job, snapshot: Snapshot, nodes: Nodes, options: RayOptions, say: Callable[[str], None]) -> str:
    """Check the cluster, then queue the job; returns its id.

    Raises: SubmitError with everything that the check found, or with what the job server answered.
    """
    client = _client(job_address(options.address))
    with tempfile.TemporaryDirectory(prefix="mixgrid-") as place:
        snapshot.unpack(Path(place))
        environment = {"working_dir": place, "env_vars": options.variables()}
        check(client, job, environment, _python(nodes), say=say)
        request = {**request_of(job, nodes, options), "runtime_env": environment}
        try:
            return str(client.submit_job(**request))
        except RuntimeError as error:
            raise SubmitError(f"the job server refused: {error}") from error


def check(client: Any, job: Job, environment: Mapping[str, Any], python: str, *, say: Callable[[str], None]) -> None:
    """Let every node say what it is and sees. Raises: SubmitError listing what is in the way of the job."""
    wanted = job.submission
    storage, folder = Storage(wanted.options.storage), file_of(job.name, "probe")
    nonce = f"{job.name} {time.time_ns()}"
    storage.write(f"{folder}/here", nonce.encode())
    words = {"storage": wanted.options.storage, "folder": folder, "data": wanted.options.data}
    question = json.dumps({**words, "tracking_uri": wanted.tracking_uri or ""})
    try:
        told = _ask(client, shlex.join([python, "-m", "orchestrator.submit.ray_jobs", question]), environment)
        back = {name: storage.read(f"{folder}/{name}").decode() for name in storage.names(folder)}
    finally:
        storage.remove(folder)
    problems = problems_of(told, nonce, back, job)
    if problems:
        raise SubmitError("the cluster is not ready for this table:\n" + "\n".join(f"- {text}" for text in problems))
    for text in notes_of(told, wanted.options.data):
        say(text)


def _ask(client: Any, entrypoint: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Run the probe as a job of its own and read its answer."""
    try:
        name = client.submit_job(entrypoint=entrypoint, runtime_env=dict(environment), metadata={"mixgrid": "probe"})
    except RuntimeError as error:
        raise SubmitError(f"the job server refused: {error}") from error
    deadline = time.monotonic() + _PROBE_SECONDS
    while not client.get_job_status(name).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(name)
            raise SubmitError(f"the check of the cluster did not end within {_PROBE_SECONDS:g} s: is it overloaded?")
        time.sleep(0.5)
    logs = client.get_job_logs(name)
    answer = next((line[len(_MARK) :] for line in logs.splitlines() if line.startswith(_MARK)), None)
    if answer is None:
        info = client.get_job_info(name)
        raise SubmitError(f"the check of the cluster failed: {info.message}\n{logs[-2000:]}")
    with suppress(RuntimeError):
        client.delete_job(name)
    return dict(json.loads(answer))


def problems_of(told: Mapping[str, Any], nonce: str, back: Mapping[str, str], job: Job) -> list[str]:
    """What stands in the way, from what the nodes said, and from the files that came `back` through storage."""
    nodes: Sequence[Mapping[str, Any]] = told["nodes"]
    found = [] if not told["tracker"] else [str(told["tracker"])]
    for library in ("python", *_LIBRARIES):
        seen = {str(node["versions"][library]): node["address"] for node in nodes}
        if "" in seen:
            found.append(f"node {seen['']} has no {library}: install mixgrid's requirements on every node")
        elif len(seen) > 1:
            places = ", ".join(f"{text} on {address}" for text, address in sorted(seen.items()))
            found.append(f"the nodes have different releases of {library}: {places}")
    for node in nodes:
        if node["error"] or node["read"] != nonce or back.get(node["id"]) != nonce:
            reason = node["error"] or "it sees other files there than this machine does"
            found.append(
                f"node {node['address']} cannot share the storage {Storage(job.submission.options.storage).name}: "
                f"{reason}; give a folder that every node has, or s3://… with its keys on the nodes (--env NAME)"
            )
    return found


def notes_of(told: Mapping[str, Any], data: str) -> list[str]:
    """What a person should know of a cluster that will do."""
    nodes = told["nodes"]
    first = nodes[0]["versions"]
    notes = [
        f"{len(nodes)} nodes with {sum(n['cpus'] for n in nodes):g} CPUs and {sum(n['gpus'] for n in nodes):g} GPUs, "
        + ", ".join(f"{name} {first[name]}" for name in ("python", *_LIBRARIES))
    ]
    here = versions()
    others = [f"{name} {here[name]}" for name in ("ray", "torch") if here[name] != first[name]]
    notes += [f"note: here it is {', '.join(others)}"] if others else []
    without = [str(node["address"]) for node in nodes if not node["has_data"]]
    if without and "://" in data:
        notes.append(f"note: nothing that was published is seen at {without_keys(data)} by {', '.join(without)}")
    elif without:
        notes.append(f"note: no folder {data} on {', '.join(without)}: drawn scenes appear there by themselves")
    return notes


def versions() -> dict[str, str]:
    """Releases of this Python and of the libraries that matter; "" for what is not there."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _client(address: str) -> Any:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)
    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise SubmitError(
            f"the job server at --address {address} asks for a token (Ray's default since 2.59): put it where Ray "
            f"looks for it (~/.ray/auth_token, RAY_AUTH_TOKEN) and set RAY_AUTH_MODE=token: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise SubmitError(
            f"no job server answers at --address {address}: {error}. It is http://HEAD:8265 of a cluster whose head "
            "runs with ray[default]"
        ) from error


class RayJobs:
    """Asks the job server that a job was sent to."""

    def state(self, record: SubmissionRecord) -> JobState:
        """Ended also where the server has no such job: jobs die with their cluster."""
        try:
            info = _client(record.address).get_job_info(record.name)
        except SubmitError as error:
            return JobState("unknown", str(error))
        except RuntimeError as error:
            if "404" in str(error) or "does not exist" in str(error):
                return JobState("ended", "its cluster is gone")
            return JobState("unknown", str(error))
        kind = "ended" if info.status.is_terminal() else "queued" if info.status.value == "PENDING" else "running"
        return JobState(kind, f"{info.status.value}: {info.message or ''}".rstrip(": "), info.driver_exit_code)  # type: ignore[arg-type]

    def stop(self, record: SubmissionRecord, *, only_queued: bool) -> None:
        """Stop the job, a running one by SIGTERM to `mixgrid run`."""
        if not only_queued or self.state(record).kind == "queued":
            _client(record.address).stop_job(record.name)

    def logs(self, record: SubmissionRecord) -> Mapping[str, str]:
        """What the job printed so far."""
        return {record.name: str(_client(record.address).get_job_logs(record.name))}


def probe(question: Mapping[str, str]) -> dict[str, Any]:
    """On the cluster: ask every node, and MLflow from the head."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    alive = [node for node in ray.nodes() if node["Alive"]]
    ask = ray.remote(num_cpus=0)(look_around)
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            dict(question), node["NodeID"]
        )
        for node in alive
    ]
    nodes = [
        {
            **answer,
            "id": node["NodeID"],
            "address": node["NodeManagerAddress"],
            "cpus": node["Resources"].get("CPU", 0.0),
            "gpus": node["Resources"].get("GPU", 0.0),
        }
        for node, answer in zip(alive, ray.get(asked), strict=True)
    ]
    return {"nodes": nodes, "tracker": problem_with(question["tracking_uri"])}


def look_around(question: Mapping[str, str], node: str) -> dict[str, Any]:
    """On one node: releases, whether the data is there, and the storage read and written."""
    answer: dict[str, Any] = {"versions": versions(), "has_data": _has_data(question["data"])}
    try:
        storage = Storage(question["storage"])
        read = storage.read(f"{question['folder']}/here").decode()
        storage.write(f"{question['folder']}/{node}", read.encode())
        return {**answer, "read": read, "error": ""}
    except (OSError, ValueError) as error:
        return {**answer, "read": "", "error": f"{type(error).__name__}: {error}"}


def _has_data(data: str) -> bool:
    """Whether there is a folder of images, or anything published."""
    if "://" not in data:
        return Path(data).is_dir()
    with suppress(OSError, ValueError):
        return Storage(data).exists(PUBLISHED_FOLDER)
    return False


if __name__ == "__main__":
    print(_MARK + json.dumps(probe(json.loads(sys.argv[1]))), flush=True)
