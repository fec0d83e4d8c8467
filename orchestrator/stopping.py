"""How a run is asked to stop: signals, and word in storage. Knows no Ray but the signal that ends Tune."""

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from orchestrator.lease import HEARTBEAT_SECONDS, stop_path
from trainer.storage import Storage

# How long running trials get to checkpoint after the first Ctrl-C or SIGTERM.
GRACE_SECONDS = 60.0


class Stopper:
    """First Ctrl-C or SIGTERM, or word from `mixgrid cancel`: running trials checkpoint and stop within the grace.

    A second signal: at once. Trials stop by themselves at the word in storage; after the grace Tune is told to end, by
    its own signal.
    """

    def __init__(self, storage: Storage, driver: str) -> None:
        self.was_asked = False
        self._storage = storage
        self._path = stop_path(driver)
        self._before: dict[int, Any] = {}
        self._ended = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="stop word", daemon=True)

    def __enter__(self) -> "Stopper":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        self._listener.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._listener.join(timeout=HEARTBEAT_SECONDS)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        with suppress(OSError):
            self.was_asked = self.was_asked or self._storage.exists(self._path)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self.was_asked:
            raise KeyboardInterrupt
        self.was_asked = True
        self._storage.write(self._path, b"stop\n")

    def _listen(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                self.was_asked = self.was_asked or self._storage.exists(self._path)
            if self.was_asked and not self._ended.wait(GRACE_SECONDS):
                os.kill(os.getpid(), signal.SIGUSR1)
                return
