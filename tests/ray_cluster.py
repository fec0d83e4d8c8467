"""A real Ray head with its job server for tests, apart from any other Ray of this machine."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def why_absent() -> str:
    """Why there can be no job server here; empty where there can."""
    return "" if importlib.util.find_spec("aiohttp_cors") else "ray[default] is not installed (the extra `cluster`)"


@contextmanager
def running_head(*, num_cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start a head that asks for a token; gives the environment in which clients find and may use it."""
    place = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # sockets have short names
    port, dashboard, agent, client = _free_ports(4)
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ports = {"port": port, "dashboard-port": dashboard, "dashboard-agent-listen-port": agent}
    more = {"ray-client-server-port": client, "num-cpus": num_cpus, "temp-dir": place, "dashboard-host": "127.0.0.1"}
    words = ["ray", "start", "--head", "--block", "--disable-usage-stats"]
    words += [f"--{name}={value}" for name, value in {**ports, **more}.items()]
    with (place / "head.txt").open("wb") as out:
        head = subprocess.Popen(words, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        _await_server(f"http://127.0.0.1:{dashboard}/api/version", head, place)
        yield {**environment, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    finally:
        _end(head)
        shutil.rmtree(place, ignore_errors=True)


def _end(head: "subprocess.Popen[bytes]") -> None:
    """End the head and all it started, which are of one session; a graceful end takes half a minute."""
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()


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
    raise RuntimeError(f"the head did not come up: {(place / 'head.txt').read_text(errors='replace')[-2000:]}")
