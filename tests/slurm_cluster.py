"""A real Slurm for tests, of one node or several, with its daemons and files in a folder of its own."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.slurm_nodes import SHARED_BY_NONE, Node, hosts, this_machine

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
_CONF = """
ClusterName=mixgrid-test
SlurmctldHost={host}({controller})
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
SchedulerParameters=sched_interval=2
KillWait=5
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=10 State=UP
"""


def why_absent() -> str:
    """Why there can be no Slurm here; empty where there can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "slurmd wants to be root"


@contextmanager
def running_slurm(
    place: Path, *, apart: bool = False, num_hosts: int = 1, features: str = "", gpus: int = 0
) -> Iterator[dict[str, str]]:
    """Start Slurm; gives the environment in which its commands find it.

    Args:
        apart: its jobs see no process but their own, so that `ray stop` in one ends no Ray of this machine.
        num_hosts: nodes; of several each is a host with its own address, name, processes and temporary folder.
        features: what `--constraint` may ask of a node.
        gpus: how many devices of a node Slurm takes for GPUs; they compute nothing.
    """
    place.mkdir(parents=True, exist_ok=True)
    made = nullcontext([this_machine(apart=apart)]) if num_hosts == 1 else hosts(num_hosts, place)
    with made as nodes:
        environment = {**os.environ, "SLURM_CONF": str(place / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        if num_hosts > 1:
            environment["TMPDIR"] = SHARED_BY_NONE
        _write_conf(place, nodes, features, gpus)
        started = []
        try:
            for words in (_munged(place), ["slurmctld", "-D", "-i"], *(node.slurmd() for node in nodes)):
                with (place / f"{len(started)}-{Path(words[0]).name}.out").open("wb") as out:
                    started.append(subprocess.Popen(words, env=environment, stdout=out, stderr=out))
                time.sleep(0.5)
            _await_idle(environment, place, num_hosts)
            yield environment
        finally:
            _clear_queue(environment)
            for process in reversed(started):
                # `unshare` does not hear SIGTERM, and takes all its processes with it
                process.send_signal(signal.SIGKILL if "unshare" in process.args else signal.SIGTERM)
            for process in started:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _write_conf(place: Path, nodes: Sequence[Node], features: str, gpus: int) -> None:
    (place / "state").mkdir()
    controller = "127.0.0.1" if len(nodes) == 1 else f"{nodes[0].address.rpartition('.')[0]}.1"
    ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
    names = {"host": socket.gethostname(), "user": getpass.getuser(), "controller": controller}
    more = (f" Feature={features}" if features else "") + (f" Gres=gpu:{gpus}" if gpus else "")
    lines = [f"NodeName={n.name} NodeAddr={n.address} CPUs=2{more} State=UNKNOWN" for n in nodes]
    lines += ["GresTypes=gpu"] if gpus else []
    (place / "slurm.conf").write_text(_CONF.format(place=place, **names, **ports) + "\n".join(lines) + "\n")
    if gpus:
        (place / "gres.conf").write_text(f"Name=gpu File=/dev/tty[0-{gpus - 1}]\n")
    key = place / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)


def _clear_queue(environment: dict[str, str]) -> None:
    subprocess.run(["scancel", "--user", getpass.getuser()], env=environment, check=False, capture_output=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        told = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True, check=False)
        if not told.stdout.strip():
            return
        time.sleep(0.5)


def _munged(place: Path) -> list[str]:
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munge.seed"}
    words = [f"--{option}={place}/{name}" for option, name in {**files, "log-file": "munged.log"}.items()]
    return ["munged", "--foreground", "--force", *words]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _await_idle(environment: dict[str, str], place: Path, num_nodes: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "all", "-o", "%T"], env=environment, capture_output=True, text=True, check=False
        )
        if told.stdout.split() == ["idle"] * num_nodes:
            return
        time.sleep(0.5)
    logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in place.glob("*.out"))
    raise RuntimeError(f"Slurm did not come up: {told.stdout}{told.stderr}\n{logs}")
