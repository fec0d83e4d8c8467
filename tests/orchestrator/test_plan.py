"""Table and storage to cells with state: drivers that live, that died, and what a run takes up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import TABLES
from experiments.table import find_table
from orchestrator import plan
from orchestrator.plan import live_drivers, process_started, survey, this_host, to_run
from trainer.records import DriverRecord, Failure, Storage, trial_path

DEMO = find_table("demo", TABLES).selected(seeds="0")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def write_driver(
    storage: Storage, *, pid: int, started: float, host: str | None = None, finished: bool = False
) -> None:
    record = DriverRecord(
        driver="d1",
        host=host or this_host(),
        pid=pid,
        process_started=started,
        table="demo",
        trial_ids=(DEMO.cells()[0].trial_id,),
        finished=finished,
    )
    storage.write("drivers/d1.json", record.sealed())


def test_an_empty_storage_misses_every_cell_once(storage: Storage) -> None:
    planned = survey(DEMO, storage)
    assert {item.state for item in planned} == {"missing"}
    assert to_run(planned, retry_failed=False) == list(DEMO.cells())


def test_a_cell_of_a_live_driver_is_left_to_it(storage: Storage) -> None:
    write_driver(storage, pid=os.getpid(), started=process_started(os.getpid()))
    planned = survey(DEMO, storage)
    assert (planned[0].state, planned[0].holder) == ("running", "d1")
    assert DEMO.cells()[0] not in to_run(planned, retry_failed=False)


def test_a_dead_driver_on_this_host_is_taken_over_at_once(storage: Storage) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    started = process_started(gone.pid)
    gone.wait()
    write_driver(storage, pid=gone.pid, started=started)
    assert live_drivers(storage) == []


def test_another_process_with_the_number_of_a_dead_driver_does_not_hold(storage: Storage) -> None:
    write_driver(storage, pid=os.getpid(), started=process_started(os.getpid()) - 1000)
    assert live_drivers(storage) == []


def test_a_driver_elsewhere_lives_while_its_heartbeat_is_fresh(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_driver(storage, pid=1, started=0.0, host="elsewhere/1")
    assert [record.driver for record in live_drivers(storage)] == ["d1"]
    monkeypatch.setattr(plan, "STALE_SECONDS", -1.0)
    assert live_drivers(storage) == []


def test_a_finished_driver_holds_nothing(storage: Storage) -> None:
    write_driver(storage, pid=os.getpid(), started=process_started(os.getpid()), finished=True)
    assert live_drivers(storage) == []


def test_a_damaged_driver_record_holds_nothing(storage: Storage) -> None:
    storage.write("drivers/d1.json", b"{half")
    assert live_drivers(storage) == []


def test_failed_cells_run_again_only_when_asked(storage: Storage) -> None:
    cell = DEMO.cells()[0]
    failure = Failure(
        trial_id=cell.trial_id,
        attempt="a",
        reason="non_finite_loss",
        message="loss",
        trace_tail="",
        step=7,
        failed=0.0,
    )
    storage.write(trial_path(cell.trial_id, "failure.json"), failure.sealed())
    planned = survey(DEMO, storage)
    assert (planned[0].state, planned[0].trial.detail) == ("failed", "non_finite_loss: loss")
    assert cell not in to_run(planned, retry_failed=False)
    assert cell in to_run(planned, retry_failed=True)
