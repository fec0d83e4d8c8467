"""Plans and leases on S3: by the store's own clock, and never a guess where the store does not answer."""

import os
import time
from contextlib import suppress

import pytest

from orchestrator import lease
from orchestrator.lease import Lease, live_drivers
from orchestrator.plan import survey
from tests.object_store import ObjectStore
from tests.orchestrator.cli.test_commands import mixgrid
from tests.orchestrator.conftest import small_table
from trainer import remote
from trainer.records import (
    DriverRecord,
    Failure,
    trial_path,
)
from trainer.storage import Storage


@pytest.fixture
def storage(object_store: ObjectStore, bucket: str) -> Storage:
    """An empty storage in a bucket."""
    return Storage(object_store.url(f"{bucket}/runs"))


def write_driver(storage: Storage, name: str) -> None:
    """A heartbeat from another host."""
    record = DriverRecord(
        driver=name, host="elsewhere/1", pid=1, process_started=0.0, table="t", trial_ids=(name,), finished=False
    )
    storage.write(f"drivers/{name}.json", record.sealed())


def test_drivers_elsewhere_live_by_the_clock_of_the_store(
    object_store: ObjectStore, bucket: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"fresh": 0, "late": lease.STALE_SECONDS - 20, "stale": lease.STALE_SECONDS + 2}.items():
        write_driver(storage, name)
        object_store.age(bucket, f"runs/drivers/{name}.json", seconds=seconds)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert [record.driver for record in live_drivers(storage)] == ["fresh", "late"]


def test_of_two_drivers_on_s3_the_later_leaves_what_the_earlier_holds(storage: Storage) -> None:
    with Lease(storage, "one", ["a", "b"]), Lease(storage, "two", ["b", "c"]) as second:
        assert second.trial_ids == {"c"}
        assert [set(record.trial_ids) for record in live_drivers(storage)] == [{"a", "b"}, {"c"}]
    assert live_drivers(storage) == []


def test_a_heart_beats_on_after_a_store_that_failed(
    object_store: ObjectStore, bucket: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRIES", 0)
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    hasty = Storage(storage.url)
    with Lease(hasty, "t", ["a"]) as held:
        with object_store.failing("error", matching="drivers"):
            await_requests(object_store, 3)
        object_store.age(bucket, f"runs/drivers/{held.name}.json", seconds=1000)
        stale = storage.modified(f"drivers/{held.name}.json")
        await_requests(object_store, 9)
        assert storage.modified(f"drivers/{held.name}.json") > stale


def await_requests(object_store: ObjectStore, count: int) -> None:
    """Return once so many more requests for heartbeats have come."""
    object_store.seen()
    deadline = time.monotonic() + 20
    while count > 0:
        assert time.monotonic() < deadline, "no heartbeat comes"
        time.sleep(0.02)
        count -= sum("/drivers/" in request for request in object_store.seen())


def test_no_request_that_fails_makes_a_plan_of_less(
    object_store: ObjectStore, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = small_table()
    write_driver(storage, "d1")
    for cell in table.cells()[:1]:
        failure = Failure(
            trial_id=cell.trial_id, attempt="a", reason="error", message="m", trace_tail="", step=7, failed=0.0
        )
        storage.write(trial_path(cell.trial_id, "failure.json"), failure.sealed())
    monkeypatch.setattr(remote, "RETRIES", 0)
    hasty = Storage(storage.url)
    assert not hasty.exists("nothing")  # from now on its bucket is known to be there
    object_store.seen()
    expected, count = survey(table, hasty), len(object_store.seen())
    assert [item.state for item in expected] == ["failed", "missing"]
    for first in range(count):
        with object_store.failing("error", first=first, lasts=1), suppress(OSError):
            assert survey(table, hasty) == expected
            pytest.fail(f"request {first} of {count} failed unnoticed")


def test_the_command_says_where_it_looked_for_a_missing_bucket(object_store: ObjectStore, table_file: str) -> None:
    url = object_store.url("no-such-bucket/runs", keys="mykey:s3cr%2Ft@")
    said = mixgrid("status", table_file, "--storage", url, **aws_words())
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("mixgrid: cannot list s3://no-such-bucket/runs/drivers: NO_SUCH_BUCKET: there is no")
    assert "s3cr" not in said.stderr


@pytest.mark.chaos
def test_the_command_gives_up_a_store_that_is_away_within_bounds(object_store: ObjectStore, table_file: str) -> None:
    started = time.monotonic()
    said = mixgrid("status", table_file, "--storage", "s3://bucket/runs", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert (said.returncode, said.stdout) == (2, "")
    assert "mixgrid: cannot list s3://bucket/runs/drivers: " in said.stderr
    assert time.monotonic() - started < 30
    with object_store.failing("late"):
        said = mixgrid("status", table_file, "--storage", object_store.url("bucket/runs"), **aws_words())
    assert (said.returncode, said.stdout) == (2, "")
    assert "Timeout was reached" in said.stderr
    assert time.monotonic() - started < 120


def aws_words() -> dict[str, str]:
    """The environment of this test as far as it is about S3."""
    return {name: word for name, word in os.environ.items() if name.startswith("AWS_")}
