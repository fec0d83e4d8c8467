"""Table and storage to cells with their state. Reads storage alone: no Ray, no memory of earlier runs."""

import os
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import psutil

from experiments.table import Cell, Table
from trainer.records import DamagedRecord, DriverRecord, Storage, TrialState, trial_state

HEARTBEAT_SECONDS = 5.0
# A driver on another host counts as dead when its heartbeat is this old by the storage's clock.
STALE_SECONDS = 120.0

CellState = Literal["done", "failed", "partial", "missing", "running"]


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell, what storage says of its trial, and the live driver that holds it."""

    cell: Cell
    trial: TrialState
    holder: str | None

    @property
    def state(self) -> CellState:
        """Running where a live driver holds an unfinished trial, else what storage says."""
        return "running" if self.holder is not None and self.trial.kind != "done" else self.trial.kind


def survey(table: Table, storage: Storage) -> list[PlannedCell]:
    """The state of every cell, in the table's order."""
    cells = table.cells()
    holders = holders_of(live_drivers(storage))
    unique = sorted({cell.trial_id for cell in cells})
    with ThreadPoolExecutor(max_workers=16) as pool:
        states = dict(zip(unique, pool.map(lambda trial_id: trial_state(storage, trial_id), unique), strict=True))
    return [PlannedCell(cell, states[cell.trial_id], holders.get(cell.trial_id)) for cell in cells]


def to_run(planned: Iterable[PlannedCell], *, retry_failed: bool) -> list[Cell]:
    """The cells a run trains: missing and partial ones, failed ones when asked; each trial once."""
    wanted = {"missing", "partial"} | ({"failed"} if retry_failed else set())
    cells = {p.cell.trial_id: p.cell for p in reversed(list(planned)) if p.state in wanted}
    return list(reversed(cells.values()))


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
    return f"{socket.gethostname()}/{int(psutil.boot_time())}"


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
