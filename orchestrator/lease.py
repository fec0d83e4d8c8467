"""Which driver holds which trials: heartbeats in storage. Knows neither Ray nor tables.

Safety never rests on this: attempts do not overwrite each other. It only keeps two drivers from doing the same work.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from trainer.records import DamagedRecord, DriverRecord
from trainer.storage import Storage

HEARTBEAT_SECONDS = 5.0
# A driver on another host counts as dead when its heartbeat is this old by the storage's clock.
STALE_SECONDS = 120.0


class Lease:
    """Holds trials in storage while the driver lives.

    What others hold already is left to them; of two drivers that start together the one with the earlier name keeps.
    A `dashboard` that is set later is told with the next beat.
    """

    def __init__(self, storage: Storage, table_name: str, trial_ids: Iterable[str]) -> None:
        self.name = new_driver_name()
        self.started = time.time()
        self.trial_ids = set(trial_ids)
        self.dashboard = ""
        self._storage = storage
        self._table = table_name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Lease":
        established = live_drivers(self._storage)
        self.trial_ids -= set(holders_of(established))
        self._write(finished=False)
        known = {record.driver for record in established} | {self.name}
        newcomers = [record for record in live_drivers(self._storage) if record.driver not in known]
        self.trial_ids -= set(holders_of([record for record in newcomers if record.driver < self.name]))
        self._write(finished=False)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=2 * HEARTBEAT_SECONDS)
        with suppress(OSError):
            self._write(finished=True)
            self._storage.remove(stop_path(self.name))

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a storage that is away for a moment does not stop training
                self._write(finished=False)

    def _write(self, *, finished: bool) -> None:
        record = DriverRecord(
            driver=self.name,
            host=this_host(),
            pid=os.getpid(),
            process_started=process_started(os.getpid()),
            table=self._table,
            trial_ids=tuple(sorted(self.trial_ids)),
            finished=finished,
            dashboard=self.dashboard,
        )
        self._storage.write(f"drivers/{self.name}.json", record.sealed())


class HeldElsewhere(ValueError):  # noqa: N818  (what a person is told)
    """Another live driver trains the trial."""


@contextmanager
def hold_one(storage: Storage, trial_id: str, *, is_first: bool) -> Iterator[Callable[[], bool]]:
    """Hold a trial that trains without a grid; gives a question: is it asked to stop?

    A driver elsewhere that stopped beating is waited for until it counts as dead, so that a job which was put back into
    the queue can go on.

    Args:
        is_first: whether this is the first of the trial's ranks, which holds it for all.
    Raises: HeldElsewhere where a driver that lives holds the trial.
    """
    if not is_first:
        yield lambda: False
        return
    await_release(storage, trial_id)
    with Lease(storage, trial_id, [trial_id]) as lease:
        yield lambda: storage.exists(stop_path(lease.name))


def await_release(storage: Storage, trial_id: str) -> None:
    """Return once no live driver holds a trial. Raises: HeldElsewhere as soon as one that does gives another beat."""
    beats: dict[str, float] = {}
    while holder := holders_of(live_drivers(storage)).get(trial_id):
        record = DriverRecord.find(storage, f"drivers/{holder}.json")
        beat = storage.modified(f"drivers/{holder}.json")
        if record is not None and (record.host == this_host() or beats.setdefault(holder, beat) != beat):
            raise HeldElsewhere(
                f"{trial_id} is trained by the driver {holder} now (process {record.pid} on {record.host}): "
                "wait for it, or end it with `mixgrid cancel`"
            )
        time.sleep(HEARTBEAT_SECONDS)


def ask_to_stop(storage: Storage, trial_ids: Collection[str]) -> list[DriverRecord]:
    """Leave word for every live driver that holds one of these trials to checkpoint and stop; returns who was asked."""
    asked = [record for record in live_drivers(storage) if set(record.trial_ids) & set(trial_ids)]
    for record in asked:
        storage.write(stop_path(record.driver), b"stop\n")
    return asked


def stop_path(driver: str) -> str:
    """The file whose presence asks a driver's trials to checkpoint and stop."""
    return f"drivers/{driver}.stop"


def holders_of(drivers: Sequence[DriverRecord]) -> dict[str, str]:
    """Which live driver holds each trial."""
    return {trial_id: record.driver for record in reversed(drivers) for trial_id in record.trial_ids}


def live_drivers(storage: Storage) -> list[DriverRecord]:
    """The drivers that still work, by name.

    On this host a driver lives while its process does, so that a dead one is taken over at once; elsewhere while its
    heartbeat is fresh by the storage's clock.
    """
    records, now = [], cache(storage.now)  # a look at the storage's clock costs requests: one, where one is needed
    for name in storage.names("drivers"):
        if name.endswith(".json"):
            with suppress(DamagedRecord):
                record = DriverRecord.find(storage, f"drivers/{name}")
                if record is not None and not record.finished and _is_alive(record, storage, name, now):
                    records.append(record)
    return sorted(records, key=lambda record: record.driver)


def _is_alive(record: DriverRecord, storage: Storage, name: str, now: Callable[[], float]) -> bool:
    if record.host == this_host():
        return is_process_alive(record.pid, record.process_started)
    return now() - storage.modified(f"drivers/{name}") < STALE_SECONDS


def this_host() -> str:
    """Host and boot: after a reboot no process of before lives."""
    return f"{socket.gethostname()}/{_boot()}"


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    import psutil

    return str(int(psutil.boot_time()))


def process_started(pid: int) -> float:
    """When a process started, which tells it from a later one with its number."""
    import psutil

    return float(psutil.Process(pid).create_time())


def is_process_alive(pid: int, started: float) -> bool:
    """Whether the very process is there and not a zombie."""
    import psutil

    try:
        process = psutil.Process(pid)
        return bool(abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def new_driver_name() -> str:
    """A name no other driver has; names sort by their start."""
    now = time.time_ns()
    second = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
    return f"{second}-{now % 10**9 // 1000:06d}-{socket.gethostname()[:20]}-{os.getpid()}-{uuid.uuid4().hex[:4]}"
