"""Many trials are read at once, each once: in processes where that is safe and pays, else in threads of this one."""

import gc
import os
import sys
import threading
import time
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


def test_what_answers_at_once_is_read_in_turn(storage: Storage) -> None:
    asked_by: set[str] = set()
    found = read_each(storage, lambda name: (asked_by.add(threading.current_thread().name), name)[1], NAMES)
    assert list(found) == NAMES
    assert asked_by == {threading.current_thread().name}


def test_what_is_mostly_waited_for_is_asked_by_threads(storage: Storage) -> None:
    asked_by: list[str] = []

    def read(name: str) -> str:
        time.sleep(0.004)
        asked_by.append(threading.current_thread().name)
        return name.upper()

    names, began = NAMES[:80], time.perf_counter()
    found = read_each(storage, read, names)
    assert list(found.items()) == [(name, name.upper()) for name in names]
    assert time.perf_counter() - began < 80 * 0.004
    assert sorted(set(asked_by[:16])) == [threading.current_thread().name]
    assert len(set(asked_by[16:])) > 4


def test_what_is_work_is_done_in_turn_however_long_it_takes(storage: Storage) -> None:
    asked_by: set[str] = set()

    def read(name: str) -> int:
        asked_by.add(threading.current_thread().name)
        return sum(range(100_000))

    read_each(storage, read, NAMES[:40])
    assert asked_by == {threading.current_thread().name}


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
