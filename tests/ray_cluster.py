"""A real Ray cluster with its job server for tests: nodes as processes of this machine, apart from any other Ray."""

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil


def why_absent() -> str:
    """Why there can be no job server here; empty where there can."""
    return "" if importlib.util.find_spec("aiohttp_cors") else "ray[default] is not installed (the extra `cluster`)"


@dataclass
class Node:
    """One raylet (the head's beside the head's servers) and all that it started."""

    process: "subprocess.Popen[bytes]"
    pids: set[int] = field(default_factory=set)
    """Every process that `processes` has seen, those that are gone included."""

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Those alive whose command line has a word, oldest first."""
        found = []
        with suppress(psutil.Error):
            root = psutil.Process(self.process.pid)
            for each in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    self.pids.add(each.pid)
                    found += [each] if title in " ".join(each.cmdline()) else []
        return sorted(found, key=lambda process: process.pid)

    def kill(self) -> None:
        """End all of it at once, as a machine that loses its power."""
        while alive := self.processes():
            for each in alive:
                with suppress(psutil.Error):
                    each.kill()
            self.process.wait()
            psutil.wait_procs(alive, timeout=10)


@dataclass
class Cluster:
    """A head that asks for a token, and nodes that joined it."""

    head: Node
    environment: Mapping[str, str]
    """In which clients find the job server and may use it."""
    address: str
    place: Path
    nodes: list[Node] = field(default_factory=list)

    def add_node(self, *, num_cpus: int, num_gpus: int = 0, environment: Mapping[str, str] | None = None) -> Node:
        """Start a raylet that joins; GPUs are only counted: nothing is there.

        It has a folder of its own, as on a machine of its own: in that of the head it would unpack the job's snapshot
        again, from under the feet of the job.
        """
        (agent,) = _free_ports(1)
        ports = {"dashboard-agent-listen-port": agent, "min-worker-port": 0, "max-worker-port": 0}
        more = {"resources": json.dumps({_name(len(self.nodes)): 1}), "temp-dir": self.place / str(len(self.nodes))}
        words = {"address": self.address, "num-cpus": num_cpus, "num-gpus": num_gpus, **ports, **more}
        log = self.place / f"node-{len(self.nodes)}.txt"
        node = _start(words, {**self.environment, **(environment or {})}, log)
        self.nodes.append(node)
        self._await_nodes()
        return node

    def id_of(self, node: Node) -> str:
        """What Ray calls a node."""
        (told,) = (each for each in self._listed() if _name(self.nodes.index(node)) in each["resources_total"])
        return str(told["node_id"])

    def drain(self, node_id: str, *, seconds: int) -> None:
        """Tell Ray that a node will be taken away after so many seconds, as a cloud does with spot instances."""
        words = ["--address", self.address, "--node-id", node_id, "--reason-message", "taken away"]
        words += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", str(seconds)]
        self._ray("drain-node", *words)

    def _listed(self) -> list[dict[str, Any]]:
        address = self.environment["RAY_API_SERVER_ADDRESS"]
        return list(json.loads(self._ray("list", "nodes", "--detail", "--format", "json", "--address", address)))

    def _ray(self, *words: str) -> str:
        told = subprocess.run(["ray", *words], env=dict(self.environment), capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def _await_nodes(self) -> None:
        """Return once the newest node's raylet has its agents, and with them is known to the cluster."""
        deadline = time.monotonic() + 60
        while not self.nodes[-1].processes("ray::DashboardAgent"):
            if time.monotonic() > deadline or self.nodes[-1].process.poll() is not None:
                raise RuntimeError("the node did not come up: " + _tail(self.place / f"node-{len(self.nodes) - 1}.txt"))
            time.sleep(0.5)


@dataclass(frozen=True)
class Growth:
    """Ray's own autoscaler over its own provider of raylets on this machine (`fake_multinode`): one type of worker.

    Ray's `AutoscalingCluster` does the same, but begins by ending every Ray of this machine, and needs a file that is
    not in Ray's wheel; so does this provider under the newer autoscaler (v2).
    """

    most: int
    idle_seconds: float
    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1, "GPU": 1})

    @property
    def environment(self) -> dict[str, str]:
        """What the head and its autoscaler need."""
        return {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}

    def config(self, head_cpus: int, address: str) -> dict[str, Any]:
        """What `ray up` writes into a file."""
        provider = {"type": "fake_multinode", "gcs_address": address}
        provider |= {"use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True}
        worker = {"resources": dict(self.resources), "node_config": {}, "min_workers": 0, "max_workers": self.most}
        head = {"resources": {"CPU": head_cpus}, "node_config": {}, "max_workers": 0}
        commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
        return {
            "cluster_name": "grows",
            "provider": provider,
            "max_workers": self.most,
            "available_node_types": {"ray.head.default": head, "worker": worker},
            "head_node_type": "ray.head.default",
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": self.idle_seconds / 60,
            "auth": {},
            "docker": {},
            "file_mounts": {},
            "cluster_synced_files": [],
            "file_mounts_sync_continuously": False,
            "rsync_exclude": [],
            "rsync_filter": [],
            **{f"{name}_commands": [] for name in commands},
        }


@contextmanager
def running_cluster(*, num_cpus: int = 2, growth: Growth | None = None) -> Iterator[Cluster]:
    """Start a head of so many CPUs; it ends with all nodes that joined, and those that its autoscaler started."""
    place = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # sockets have short names
    port, dashboard, agent, client = _free_ports(4)
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ports = {"port": port, "dashboard-port": dashboard, "dashboard-agent-listen-port": agent}
    ports |= {"ray-client-server-port": client, "min-worker-port": 0, "max-worker-port": 0}
    more = {"num-cpus": num_cpus, "num-gpus": 0, "temp-dir": place, "dashboard-host": "127.0.0.1"}
    if growth is not None:
        config = place / "autoscaling.json"
        config.write_text(json.dumps(growth.config(num_cpus, f"127.0.0.1:{port}")))
        more |= {"autoscaling-config": config}
        environment |= growth.environment
    head = _start({"head": "", **ports, **more}, environment, place / "head.txt")
    clients = {**environment, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    cluster = Cluster(head, clients, f"127.0.0.1:{port}", place)
    try:
        _await_server(f"http://127.0.0.1:{dashboard}/api/version", head.process, place)
        yield cluster
    finally:
        for node in (*cluster.nodes, head):  # a graceful end takes half a minute
            node.kill()
        shutil.rmtree(place, ignore_errors=True)


def _name(number: int) -> str:
    """A resource that only this node has."""
    return f"node-{number}"


def _start(words: Mapping[str, object], environment: Mapping[str, str], log: Path) -> Node:
    options = [f"--{name}={value}" if value != "" else f"--{name}" for name, value in words.items()]
    command = ["ray", "start", "--block", "--disable-usage-stats", *options]
    with log.open("wb") as out:
        return Node(subprocess.Popen(command, env=dict(environment), stdout=out, stderr=out, start_new_session=True))


def _free_ports(count: int) -> list[int]:
    """Free ports above those that Ray gives to its workers."""
    sockets: list[socket.socket] = []
    for port in range(21000 + os.getpid() % 5000, 32000):
        each = socket.socket()
        try:
            each.bind(("127.0.0.1", port))
        except OSError:
            each.close()
            continue
        sockets.append(each)
        if len(sockets) == count:
            break
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _await_server(url: str, head: subprocess.Popen[bytes], place: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and head.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):  # it is there, and wants a token
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the head did not come up: {_tail(place / 'head.txt')}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
