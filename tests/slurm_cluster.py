"""A real Slurm of one node for tests, with its daemons and files in a folder of its own."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
_CONF = """
ClusterName=mixgrid-test
SlurmctldHost={host}(127.0.0.1)
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
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_absent() -> str:
    """Why there can be no Slurm here; empty where there can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "slurmd wants to be root"


@contextmanager
def running_slurm(place: Path, *, apart: bool = False) -> Iterator[dict[str, str]]:
    """Start Slurm; gives the environment in which its commands find it.

    With `apart` its jobs see no process but their own, so that `ray stop` in one ends no Ray of this machine.
    """
    for name in ("state", "spool"):
        (place / name).mkdir(parents=True)
    environment = {**os.environ, "SLURM_CONF": str(place / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
    conf = _CONF.format(place=place, host=socket.gethostname(), user=getpass.getuser(), **ports)
    (place / "slurm.conf").write_text(conf)
    key = place / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    started = []
    try:
        for words in (_munged(place), ["slurmctld", "-D", "-i"], _slurmd(apart)):
            with (place / f"{words[0]}.out").open("wb") as out:
                started.append(subprocess.Popen(words, env=environment, stdout=out, stderr=out))
            time.sleep(1)
        _await_idle(environment, place)
        yield environment
    finally:
        _clear_queue(environment)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _clear_queue(environment: dict[str, str]) -> None:
    subprocess.run(["scancel", "--user", getpass.getuser()], env=environment, check=False, capture_output=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        told = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True, check=False)
        if not told.stdout.strip():
            return
        time.sleep(0.5)


def _slurmd(apart: bool) -> list[str]:
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"] if apart else []
    return [*alone, "slurmd", "-D", "-N", socket.gethostname()]


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


def _await_idle(environment: dict[str, str], place: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        if told.stdout.split() == ["idle"]:
            return
        time.sleep(0.5)
    logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in place.glob("*.out"))
    raise RuntimeError(f"Slurm did not come up: {told.stdout}{told.stderr}\n{logs}")
