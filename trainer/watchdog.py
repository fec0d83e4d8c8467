"""Ends a process that makes no step for too long, so that whoever started it can try again. Knows no trial."""

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

# How long the last words may take: the storage itself may be what hangs.
_LAST_WORDS_SECONDS = 20.0
_STDERR = 2  # the file itself: sys.stderr may be replaced by what is no file


def end_this_process() -> None:
    """End at once: a hung process would not get as far as cleaning up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Watchdog:
    """While it is entered, `alive` must be called at least every `seconds`; 0 watches nothing.

    Args:
        on_hang: takes the stacks of all threads as text; may itself hang.
        end: what is done then.

    A thread of Python watches. Where code that holds the interpreter's lock hangs, that thread sleeps too; after twice
    the time faulthandler, which needs no lock, prints the stacks to stderr and ends the process.
    """

    def __init__(
        self, seconds: float, on_hang: Callable[[str], None], *, end: Callable[[], None] = end_this_process
    ) -> None:
        self._seconds = seconds
        self._on_hang = on_hang
        self._end = end
        self._seen = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def alive(self) -> None:
        """Something moved on."""
        self._seen = time.monotonic()

    def __enter__(self) -> "Watchdog":
        self.alive()
        if self._seconds > 0:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        if self._seconds > 0:
            self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._ended.wait(min(self._seconds / 4, 10.0)):
                faulthandler.dump_traceback_later(2 * self._seconds, exit=True, file=_STDERR)
                if time.monotonic() - self._seen > self._seconds:
                    self._say(stacks())
                    self._end()
                    return
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _say(self, text: str) -> None:
        words = threading.Thread(target=self._on_hang, args=(text,), name="last words", daemon=True)
        words.start()
        words.join(timeout=_LAST_WORDS_SECONDS)


def stacks() -> str:
    """Where every thread of this process is, the main one first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sorted(sys._current_frames().items(), key=lambda item: item[0] != main)
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}" for ident, frame in frames
    )
