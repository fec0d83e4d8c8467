"""Drivers that live, that died, and that start together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator import lease
from orchestrator.lease import Lease, live_drivers, process_started, this_host
from trainer.records import DriverRecord
from trainer.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def write_driver(
    storage: Storage,
    trial_id: str = "supervised-1",
    *,
    pid: int,
    started: float,
    host: str | None = None,
    finished: bool = False,
) -> None:
    record = DriverRecord(
        driver="d1",
        host=host or this_host(),
        pid=pid,
        process_started=started,
        table="demo",
        trial_ids=(trial_id,),
        finished=finished,
    )
    storage.write("drivers/d1.json", record.sealed())


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
    monkeypatch.setattr(lease, "STALE_SECONDS", -1.0)
    assert live_drivers(storage) == []


def test_a_finished_driver_holds_nothing(storage: Storage) -> None:
    write_driver(storage, pid=os.getpid(), started=process_started(os.getpid()), finished=True)
    assert live_drivers(storage) == []


def test_a_damaged_driver_record_holds_nothing(storage: Storage) -> None:
    storage.write("drivers/d1.json", b"{half")
    assert live_drivers(storage) == []


def test_a_lease_holds_its_trials_until_it_ends(storage: Storage) -> None:
    with Lease(storage, "demo", ["a-1", "a-2"]) as held:
        (record,) = live_drivers(storage)
        assert (record.driver, record.trial_ids, record.pid) == (held.name, ("a-1", "a-2"), os.getpid())
    assert live_drivers(storage) == []


def test_of_two_leases_the_earlier_keeps(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["20260101T000000-a", "20260101T000001-b"])
    monkeypatch.setattr(lease, "new_driver_name", lambda: next(names))
    with Lease(storage, "demo", ["a-1", "a-2"]), Lease(storage, "demo", ["a-2", "a-3"]) as later:
        assert later.trial_ids == {"a-3"}
        assert lease.holders_of(live_drivers(storage)) == {
            "a-1": "20260101T000000-a",
            "a-2": "20260101T000000-a",
            "a-3": "20260101T000001-b",
        }


def test_a_dashboard_that_is_known_later_is_told_with_the_next_beat(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    with Lease(storage, "demo", ["supervised-1"]) as held:
        assert [record.dashboard for record in live_drivers(storage)] == [""]
        held.dashboard = "http://10.0.0.1:8265"
        until = time.monotonic() + 10
        while not live_drivers(storage)[0].dashboard and time.monotonic() < until:
            time.sleep(0.02)
        assert live_drivers(storage)[0].dashboard == "http://10.0.0.1:8265"
