"""Which driver holds which trials: heartbeats in storage. Knows neither Ray nor tables.

Safety never rests on this: attempts do not overwrite each other. It only keeps two drivers from doing the same work.
"""

import os
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from trainer.records import DamagedRecord, DriverRecord, Storage

HEARTBEAT_SECONDS = 5.0
# A driver on another host counts as dead when its heartbeat is this old by the storage's clock.
STALE_SECONDS = 120.0


class Lease:
    """Holds trials in storage while the driver lives. Of two drivers that start together the earlier name keeps."""

    def __init__(self, storage: Storage, table_name: str, trial_ids: Iterable[str]) -> None:
        self.name = new_driver_name()
        self.started = time.time()
        self.trial_ids = set(trial_ids)
        self._storage = storage
        self._table = table_name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Lease":
        self._write(finished=False)
        earlier = [record for record in live_drivers(self._storage) if record.driver < self.name]
        self.trial_ids -= set(holders_of(earlier))
        self._write(finished=False)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=2 * HEARTBEAT_SECONDS)
        with suppress(OSError):
            self._write(finished=True)

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
        )
        self._storage.write(f"drivers/{self.name}.json", record.sealed())


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
    records = []
    for name in storage.names("drivers"):
        if name.endswith(".json"):
            with suppress(DamagedRecord):
                record = DriverRecord.find(storage, f"drivers/{name}")
                if record is not None and not record.finished and _is_alive(record, storage, name):
                    records.append(record)
    return sorted(records, key=lambda record: record.driver)


def _is_alive(record: DriverRecord, storage: Storage, name: str) -> bool:
    if record.host == this_host():
        return is_process_alive(record.pid, record.process_started)
    return storage.now() - storage.modified(f"drivers/{name}") < STALE_SECONDS


def this_host() -> str:
    """Host and boot: after a reboot no process of before lives."""
    return f"{socket.gethostname()}/{_boot()}"


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(int(psutil.boot_time()))


def process_started(pid: int) -> float:
    """When a process started, which tells it from a later one with its number."""
    return float(psutil.Process(pid).create_time())


def is_process_alive(pid: int, started: float) -> bool:
    """Whether the very process is there and not a zombie."""
    try:
        process = psutil.Process(pid)
        return bool(abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def new_driver_name() -> str:
    """A name no other driver has; names sort by their start."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{socket.gethostname()[:20]}-{os.getpid()}"
