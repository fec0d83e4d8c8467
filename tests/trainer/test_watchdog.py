"""A process that makes no step is ended, with its stacks as last words; one that works is left alone."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from trainer.watchdog import Watchdog, stacks


def watch(seconds: float, *, beats: int, pause: float) -> tuple[list[str], bool]:
    """What a watchdog said and whether it ended a "process" that moves on `beats` times."""
    said: list[str] = []
    ended = threading.Event()
    with Watchdog(seconds, said.append, end=ended.set) as watchdog:
        for _ in range(beats):
            time.sleep(pause)
            watchdog.alive()
    return said, ended.is_set()


def test_a_process_that_moves_on_is_left_alone() -> None:
    assert watch(0.4, beats=8, pause=0.1) == ([], False)


def test_a_process_that_stands_still_is_ended_with_its_stacks() -> None:
    (said,), was_ended = watch(0.2, beats=1, pause=0.8)
    assert was_ended
    assert "thread MainThread" in said
    assert "time.sleep(pause)" in said


def test_no_seconds_watch_nothing() -> None:
    assert watch(0.0, beats=1, pause=0.1) == ([], False)


def test_words_that_hang_themselves_do_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.watchdog._LAST_WORDS_SECONDS", 0.1)
    ended = threading.Event()
    with Watchdog(0.1, lambda _text: time.sleep(1.0), end=ended.set):
        assert ended.wait(2.0)


def test_every_thread_is_in_the_stacks() -> None:
    assert {"thread MainThread:"} <= set(stacks().splitlines())


def run_python(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode


def test_a_hung_process_really_ends() -> None:
    code = "import time; from trainer.watchdog import Watchdog\nwith Watchdog(0.2, print): time.sleep(60)"
    assert run_python(code) == -signal.SIGKILL


def test_a_process_hung_under_the_interpreters_lock_ends_too() -> None:
    code = (
        "import ctypes, time; from trainer.watchdog import Watchdog\n"
        "with Watchdog(0.4, print):\n    time.sleep(0.3)\n    ctypes.PyDLL(None).sleep(60)"
    )
    assert run_python(code) == 1
