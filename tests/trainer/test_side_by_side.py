"""Many trials are read at once, each once: in processes where that is safe and pays, else in threads of this one."""

import gc
import os
import sys
import threading
import types
from pathlib import Path

import pytest

from trainer import side_by_side
from trainer.records import DamagedRecord
from trainer.side_by_side import read_each
from trainer.storage import Storage

NAMES = [f"trial-{number}" for number in range(250)]
HERE = os.getpid()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_cores", lambda: 2)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread but this one and no Ray, whatever runs the tests and ran before."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    assert side_by_side._may_fork()


def reader(name: str) -> tuple[str, int, bool]:
    """What was read, by which process, and whether that one looked for cycles."""
    return name.upper(), os.getpid(), gc.isenabled()


def readers(found: dict[str, tuple[str, int, bool]]) -> set[int]:
    assert [(name, text) for name, (text, _, _) in found.items()] == [(name, name.upper()) for name in NAMES]
    return {process for _, process, _ in found.values()}


def test_many_are_read_by_other_processes_in_order_and_each_once(storage: Storage, alone: None) -> None:
    found = read_each(storage, reader, [*NAMES, *NAMES[:5]], is_pure=True)
    assert len(found) == len(NAMES)
    assert HERE not in readers(found)
    assert not any(is_collecting for _, _, is_collecting in found.values())
    assert gc.isenabled()


class Clock:
    """Time that passes when it is told to: how much of it went by, and how much of that was work."""

    def __init__(self) -> None:
        self.passed = self.worked = 0.0

    def perf_counter(self) -> float:
        return self.passed

    def thread_time(self) -> float:
        return self.worked


@pytest.mark.parametrize(
    ("passed", "worked", "is_waited_for"),
    [(1e-4, 0.0, False), (0.01, 0.009, False), (0.01, 0.001, True)],
    ids=["answers at once", "is work", "is waited for"],
)
def test_threads_ask_for_what_is_mostly_waited_for(
    passed: float, worked: float, is_waited_for: bool, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked_by = Clock(), list[str]()
    monkeypatch.setattr(side_by_side, "time", clock)

    def read(name: str) -> str:
        clock.passed += passed
        clock.worked += worked
        asked_by.append(threading.current_thread().name)
        return name.upper()

    found, me = read_each(storage, read, NAMES), threading.current_thread().name
    assert list(found.items()) == [(name, name.upper()) for name in NAMES]
    assert set(asked_by[:16]) == {me}
    assert (me not in asked_by[16:]) == is_waited_for


def test_what_leaves_something_behind_is_read_here(storage: Storage, alone: None) -> None:
    assert readers(read_each(storage, reader, NAMES)) == {HERE}


def test_a_few_are_read_here(storage: Storage, alone: None) -> None:
    few = read_each(storage, reader, NAMES[:150], is_pure=True)
    assert {process for _, process, _ in few.values()} == {HERE}


def test_one_core_reads_alone(storage: Storage, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_cores", lambda: 1)
    assert readers(read_each(storage, reader, NAMES, is_pure=True)) == {HERE}


def test_a_store_that_answers_slowly_is_asked_by_threads(
    storage: Storage, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "is_local", False)
    assert readers(read_each(storage, reader, NAMES, is_pure=True)) == {HERE}


def test_no_copy_is_made_of_a_process_with_threads(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert readers(read_each(storage, reader, NAMES, is_pure=True)) == {HERE}
    finally:
        ended.set()
        thread.join()


def test_no_copy_is_made_of_a_process_with_ray(storage: Storage, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    assert readers(read_each(storage, reader, NAMES, is_pure=True)) == {HERE}


def test_what_a_process_raises_is_raised_here(storage: Storage, alone: None) -> None:
    def read(name: str) -> str:
        if name == NAMES[200]:
            raise DamagedRecord(f"{name} is broken")
        return name

    num_threads = len(threading.enumerate())
    with pytest.raises(DamagedRecord, match="trial-200 is broken"):
        read_each(storage, read, NAMES, is_pure=True)
    assert len(threading.enumerate()) == num_threads
    assert gc.isenabled()


def test_where_a_process_is_killed_all_is_read_here(storage: Storage, alone: None) -> None:
    def read(name: str) -> tuple[str, int, bool]:
        if os.getpid() != HERE and name == NAMES[100]:
            os._exit(9)  # as if the system had taken it for its memory
        return reader(name)

    assert readers(read_each(storage, read, NAMES, is_pure=True)) == {HERE}
