"""Nodes for a Slurm of tests: each with processes of its own, and where there are several with a host's own name,
address and temporary folder.
"""

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SHARED_BY_NONE = "/var/tmp"  # here each of several nodes has a folder of its own
# The shell is the first process of its namespace, and buries what Ray leaves without a parent.
_ALONE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@dataclass(frozen=True, slots=True)
class Node:
    """A node by its name and address, the words that start a program on it, and what is to be done there first."""

    name: str
    address: str
    words: tuple[str, ...] = ()
    first: str = ""

    def slurmd(self) -> list[str]:
        """The words that start Slurm's daemon on this node."""
        daemon = ["slurmd", "-D", "-N", self.name]
        if not self.words:
            return daemon
        return [*self.words, "bash", "-c", f"{self.first}\n{shlex.join(daemon)} &\nwait"]


def why_no_hosts() -> str:
    """Why there can be no nodes with addresses of their own; empty where there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces want root and iproute2"
    name = f"mgtry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return made.stderr.strip()


def this_machine(*, apart: bool) -> Node:
    """This machine as the only node; with `apart` its jobs see no process but their own."""
    return Node(socket.gethostname(), "127.0.0.1", tuple(_ALONE) if apart else ())


@contextmanager
def hosts(count: int, place: Path) -> Iterator[list[Node]]:
    """Nodes joined by a bridge, each with its own name, address, processes and temporary folder; gives them.

    This machine is the first address of their network.
    """
    number = os.getpid()
    network = f"10.{200 + number % 50}.{number // 50 % 250}"
    bridge = f"mgb{number}"
    names = [f"node{index}" for index in range(1, count + 1)]
    addresses = {name: f"{network}.{index}" for index, name in enumerate(names, start=2)}
    table = place / "hosts"
    lines = {"localhost": "127.0.0.1", socket.gethostname(): f"{network}.1", **addresses}
    table.write_text("".join(f"{address} {name}\n" for name, address in lines.items()))
    try:
        _do(
            f"ip link add {bridge} type bridge",
            f"ip address add {network}.1/24 dev {bridge}",
            f"ip link set {bridge} up",
        )
        yield [_host(name, addresses[name], bridge, place) for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", f"{bridge}{name}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)


def _host(name: str, address: str, bridge: str, place: Path) -> Node:
    space, link = f"{bridge}{name}", f"{bridge[3:]}{name[4:]}"
    _do(
        f"ip netns add {space}",
        f"ip link add o{link} type veth peer name i{link}",
        f"ip link set o{link} master {bridge} up",
        f"ip link set i{link} netns {space}",
        f"ip -n {space} address add {address}/24 dev i{link}",
        f"ip -n {space} link set i{link} up",
        f"ip -n {space} link set lo up",
        f"ip -n {space} route add default via {address.rpartition('.')[0]}.1",
    )
    own = place / f"tmp-{name}"
    own.mkdir()
    first = f"hostname {name}\nmount --bind {place}/hosts /etc/hosts\nmount --bind {own} {SHARED_BY_NONE}"
    return Node(name, address, ("nsenter", f"--net=/run/netns/{space}", *_ALONE, "--uts"), first)


def _do(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)
