"""Two hosts with their own addresses on this machine, on a switch whose cables can be pulled.

A host is a network namespace with its own name, its own /etc/hosts and, of some folders, its own content; this
machine has a port on the switch too. Wants Linux, root and iproute2.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# Debian lets a host's own name mean this, by which no other host finds it.
_OWN_NAME = "127.0.1.1"


def why_absent() -> str:
    """Why there can be no hosts here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "`ip` (iproute2) or `unshare` (util-linux) is not installed"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True)
    return f"this machine makes no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Host:
    """One of the hosts. `folders` maps a folder that every host has to where this host's content of it lies."""

    name: str
    address: str
    namespace: str
    port: str
    folders: Mapping[Path, Path] = field(default_factory=dict)

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """The command line that runs a command on this host."""
        script = [f"hostname {self.name}", *(f"mount --bind {own} {place}" for place, own in self.folders.items())]
        alone = ["unshare", "--uts", "--mount", "sh", "-ec", "; ".join([*script, 'exec "$@"']), "sh"]
        return ["ip", "netns", "exec", self.namespace, *alone, *map(str, words)]

    def run(self, words: Sequence[str | Path], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(self.command(words), capture_output=True, text=True, env=environment, timeout=300)

    @contextmanager
    def running(self, words: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Iterator[psutil.Popen]:
        """A process there in the folder of its log, gone with all below it at the end."""
        with log.open("ab") as out:
            process = psutil.Popen(self.command(words), env=environment, stdout=out, stderr=out, cwd=log.parent)
        try:
            yield process
        finally:
            end_with_all_below(process)

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Pull its cable while the body runs."""
        _ip("link", "set", self.port, "down")
        try:
            yield
        finally:
            _ip("link", "set", self.port, "up")


def end_with_all_below(process: psutil.Popen) -> None:
    """SIGTERM to the process, then SIGKILL to it and to all that it had started."""
    below: list[psutil.Process] = []
    with suppress(psutil.Error):
        below = process.children(recursive=True)
        process.terminate()
    _, alive = psutil.wait_procs([process, *below], timeout=10)
    for each in alive:
        with suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(alive, timeout=10)


@contextmanager
def two_hosts(names: tuple[str, str], folders: Mapping[Path, tuple[Path, Path]] | None = None) -> Iterator[list[Host]]:
    """Two hosts of these names; each knows the other by name, and itself by Debian's 127.0.1.1.

    Args:
        folders: folders to where the first and the second host have their own content of them.
    """
    mark = f"mg{os.getpid() % 10**6}"
    net = f"10.{89 + os.getpid() % 100}.0"
    hosts = [
        Host(name, f"{net}.{number}", f"{mark}-{number}", f"{mark}p{number}", _folders_of(folders or {}, number - 1))
        for number, name in enumerate(names, start=1)
    ]
    try:
        _ip("link", "add", f"{mark}s", "type", "bridge")
        _ip("addr", "add", f"{net}.254/24", "dev", f"{mark}s")
        _ip("link", "set", f"{mark}s", "up")
        for host in hosts:
            _plug_in(host, hosts, switch=f"{mark}s")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True)
            shutil.rmtree(_etc(host), ignore_errors=True)
        subprocess.run(["ip", "link", "del", f"{mark}s"], capture_output=True)


def _folders_of(folders: Mapping[Path, tuple[Path, Path]], place: int) -> dict[Path, Path]:
    return {folder: own[place] for folder, own in folders.items()}


def _etc(host: Host) -> Path:
    return Path("/etc/netns") / host.namespace


def _plug_in(host: Host, hosts: Sequence[Host], *, switch: str) -> None:
    _ip("netns", "add", host.namespace)
    _etc(host).mkdir(parents=True)
    others = [f"{other.address} {other.name}" for other in hosts if other is not host]
    lines = ["127.0.0.1 localhost", f"{_OWN_NAME} {host.name}", *others]
    (_etc(host) / "hosts").write_text("\n".join(lines) + "\n")
    _ip("link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("link", "set", host.port, "master", switch, "up")
    _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", host.namespace, "link", "set", device, "up")
    time.sleep(0.1)
