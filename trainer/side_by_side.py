"""Reading many trials at once: by threads where answers are waited for, by processes where reading is the work.

Loads neither torch nor ray.
"""

import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from trainer.records import T
from trainer.storage import Storage

_FEWEST = 100
"""So many trials are worth a process: to read them takes several times as long as it does to start."""
_MOST_PROCESSES = 8
_MOST_THREADS = 32
_SAMPLE = 16
"""So many trials of a local storage are read in turn, to see whether its answers are waited for."""
_QUICK_SECONDS = 1e-3
"""An answer that comes so soon is not worth a thread: each would mostly wait for the other to let go of Python."""


def read_each(
    storage: Storage,
    read: Callable[[str], T],
    trial_ids: Iterable[str],
    *,
    num_threads: int | None = None,
    is_pure: bool = False,
) -> dict[str, T]:
    """What `read` gives for each trial, side by side: many at a time where each answer has to be waited for.

    Args:
        is_pure: `read` leaves nothing behind in this process, and what it gives can be pickled: another process may do
            it. Where that is safe, many trials of a local storage are read on all cores.
    """
    unique = list(dict.fromkeys(trial_ids))
    num_processes = min(_cores(), _MOST_PROCESSES, len(unique) // _FEWEST)
    with _no_search_for_cycles():
        if is_pure and storage.is_local and num_processes > 1 and _may_fork():
            found = _read_in_processes(read, unique, num_processes)
            if found is not None:
                return dict(zip(unique, found, strict=True))
        if num_threads is not None or not storage.is_local:
            return _read_by_threads(read, unique, num_threads or _MOST_THREADS)
        return _read_here(read, unique)


def _read_here(read: Callable[[str], T], trial_ids: Sequence[str]) -> dict[str, T]:
    """In turn, unless the first ones were mostly waited for: a shared folder may be far away, a disk may be cold."""
    began, worked_before = time.perf_counter(), time.thread_time()
    found = {name: read(name) for name in trial_ids[:_SAMPLE]}
    passed, worked = time.perf_counter() - began, time.thread_time() - worked_before
    rest = trial_ids[_SAMPLE:]
    if passed > _QUICK_SECONDS * len(found) and worked < passed / 2:
        return found | _read_by_threads(read, rest, _MOST_THREADS)
    return found | {name: read(name) for name in rest}


def _read_by_threads(read: Callable[[str], T], trial_ids: Sequence[str], num_threads: int) -> dict[str, T]:
    with ThreadPoolExecutor(num_threads) as pool:
        return dict(zip(trial_ids, pool.map(read, trial_ids), strict=True))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _may_fork() -> bool:
    """Whether a copy of this process can work: no thread of ours is in the middle of anything, and Ray has none."""
    return sys.platform == "linux" and threading.active_count() == 1 and "ray" not in sys.modules


def _read_in_processes(read: Callable[[str], T], trial_ids: Sequence[str], num_processes: int) -> list[T] | None:
    """As `map`; None where a process died of something else than its work, so that it is to be done here."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    fork = multiprocessing.get_context("fork")  # what is imported here is there at once, and `read` needs no pickling
    with ProcessPoolExecutor(num_processes, fork, initializer=_take, initargs=(read,)) as pool:
        try:
            with warnings.catch_warnings():
                # Python 3.12 counts numpy's idle threads, which know of forks.
                warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                return list(pool.map(_read_taken, trial_ids, chunksize=-(-len(trial_ids) // (4 * num_processes))))
        except BrokenProcessPool:
            return None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_taken: list[Callable[[str], Any]] = []


def _take(read: Callable[[str], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its processes
    _taken[:] = [read]


def _read_taken(trial_id: str) -> Any:
    return _taken[0](trial_id)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Records are many small objects that stay: to look through them for garbage takes a fifth of reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
