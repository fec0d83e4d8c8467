"""How a run asks Ray's autoscaler for nodes, and takes it back. Knows Ray, and no trial.

Run as a program it is the guard that takes the request back where the run was killed: Ray keeps a request until another
one comes, whoever made it.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the guard stays small
    from orchestrator.demand import Bundles

# How often the thread looks whether something else is needed.
_LOOK_SECONDS = 1.0
# A request is made again after so long: another run on the cluster may have replaced it, or its head forgotten it.
_AGAIN_SECONDS = 30.0
_DONE = b"done"
# Ray's variable by which a job's own configuration reaches its process; the guard is no part of the job.
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class Autoscaler:
    """Keeps Ray's autoscaler told of how many workers there should be room for; nothing is asked before `need`.

    A request is a floor under what the whole cluster has, and there is one for a cluster: the last one counts. It is
    made from a thread, so that nobody waits for it, and is a wish: where it cannot be said it is said again later.

    Args:
        bundles_for: what so many workers take, and the labels of their nodes.
    """

    def __init__(self, bundles_for: "Callable[[int], Bundles]") -> None:
        self._bundles_for = bundles_for
        self._needed: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_told, name="autoscaler", daemon=True)

    def need(self, num_workers: int) -> None:
        """So many workers from now on, over all nodes."""
        self._needed = num_workers

    def __enter__(self) -> "Autoscaler":
        self._guard = _start_guard()
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        word = _DONE if _was_told(([], [])) else b""  # without the word the guard goes on trying
        with suppress(OSError, subprocess.TimeoutExpired):
            self._guard.communicate(word, timeout=10)

    def _keep_told(self) -> None:
        told, told_at = None, -inf
        while not self._ended.wait(_LOOK_SECONDS):
            needed, now = self._needed, time.monotonic()
            is_due = needed != told or now - told_at >= _AGAIN_SECONDS
            if needed is not None and is_due and _was_told(self._bundles_for(needed)):
                told, told_at = needed, now


def _was_told(bundles: "Bundles") -> bool:
    """Replace what is asked of the autoscaler; whether the cluster heard it."""
    import ray.exceptions
    from ray.autoscaler.sdk import request_resources

    try:
        request_resources(bundles=bundles[0], bundle_label_selectors=bundles[1])
    except (ray.exceptions.RayError, ConnectionError, RuntimeError):
        return False
    return True


def _start_guard() -> "subprocess.Popen[bytes]":
    """A small process that outlives this one: in a session of its own, it waits for the end of its input."""
    import ray

    code = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    environment = {name: value for name, value in os.environ.items() if name != _JOB_CONFIG}
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator.autoscaler", ray.get_runtime_context().gcs_address],
        env={**environment, "PYTHONPATH": paths},
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def guard(address: str) -> None:
    """Wait for the end of the run that started this process; take its request back where it could not."""
    if sys.stdin.buffer.read() == _DONE:
        return
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    _was_told(([], []))


if __name__ == "__main__":
    guard(sys.argv[1])
