"""Stopping, verifying and pruning as a user meets them."""

import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.lease import HeldElsewhere, Lease, await_release, live_drivers, stop_path
from tests.orchestrator.cli.test_commands import ROOT, mixgrid
from tests.orchestrator.conftest import small_table
from tests.orchestrator.test_lease import write_driver
from trainer.reading import find_commits, trial_state
from trainer.records import attempt_path, trial_path
from trainer.storage import Storage

CELL = small_table().cells()[0]


@pytest.fixture
def copied(trained: str, tmp_path: Path) -> Storage:
    shutil.copytree(trained, tmp_path / "runs")
    return Storage(str(tmp_path / "runs"))


def test_verify_of_a_finished_table_says_that_every_number_holds(copied: Storage, table_file: str) -> None:
    told = mixgrid("verify", table_file, "--storage", copied.url)
    assert told.returncode == 0, told.stdout
    assert "2 cells done, 6 evaluations derived again" in told.stdout
    assert "every number holds" in told.stdout


def test_verify_fails_on_drift_and_names_the_cell(copied: Storage, table_file: str) -> None:
    copied.write(trial_path(CELL.trial_id, "weights.pt"), b"other")
    told = mixgrid("verify", table_file, "--storage", copied.url)
    assert told.returncode == 1
    assert "drift: Supervised@1/3#0" in told.stdout


def test_verify_fails_on_an_exported_file_that_was_edited(
    copied: Storage, table_file: str, places: dict[str, str]
) -> None:
    words = (table_file, "--storage", copied.url)
    assert mixgrid("run", *words, "--data", places["data"], "--cache", places["cache"]).returncode == 0
    path = Path(copied.locate("tables/small/table.csv"))
    assert mixgrid("verify", *words).returncode == 0
    path.write_text(path.read_text().replace("Supervised", "Supervisedd"))
    told = mixgrid("verify", *words)
    assert told.returncode == 1
    assert f"drift: {path} is not what the records give now" in told.stdout


def test_prune_says_what_goes_and_does_it(copied: Storage) -> None:
    (attempt,) = copied.names(trial_path(CELL.trial_id, "attempts"))
    waste = attempt_path(CELL.trial_id, attempt, "checkpoint-00000003")
    copied.write(f"{waste}/state.pt", b"overtaken")
    assert "would remove: 1 x checkpoint" in mixgrid("prune", "--storage", copied.url, "--dry-run").stdout
    assert copied.exists(waste)
    assert "removed: 1 x checkpoint" in mixgrid("prune", "--storage", copied.url).stdout
    assert not copied.exists(waste)


def test_cancel_without_a_driver_says_so(copied: Storage, table_file: str) -> None:
    told = mixgrid("cancel", table_file, "--storage", copied.url)
    assert (told.returncode, told.stdout) == (0, "nobody trains cells of this table\n")


@pytest.fixture
def training(tmp_path: Path, places: dict[str, str]) -> subprocess.Popen[str]:
    """`mixgrid train` at work on a long trial of its own, in a storage `alone`."""
    cell = small_table(num_steps=100_000).cells()[0]
    (tmp_path / "spec.json").write_text(cell.spec.model_dump_json())
    words = [
        "train",
        str(tmp_path / "spec.json"),
        "--storage",
        str(tmp_path / "alone"),
        "--checkpoint-every",
        "25",
        "--log-every",
        "5",
    ]
    command = [sys.executable, "-c", "from orchestrator.cli.app import main; main()", *words]
    command += ["--data", places["data"], "--cache", places["cache"]]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    storage = Storage(str(tmp_path / "alone"))
    deadline = time.monotonic() + 240
    while not find_commits(storage, cell.trial_id):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


def test_a_trial_on_its_own_is_held_seen_and_cancelled(training: subprocess.Popen[str], tmp_path: Path) -> None:
    storage, cell = Storage(str(tmp_path / "alone")), small_table(num_steps=100_000).cells()[0]
    (tmp_path / "long.py").write_text(
        "from tests.orchestrator.conftest import small_table\nLONG = small_table(num_steps=100_000)\n"
    )
    words = (str(tmp_path / "long.py"), "--storage", storage.url)
    status = mixgrid("status", *words).stdout
    assert "1 running" in status
    assert "of 100000, " in status
    with pytest.raises(HeldElsewhere, match=f"process {training.pid}"):
        await_release(storage, cell.trial_id)
    told = mixgrid("cancel", *words)
    assert told.returncode == 0, told.stdout
    assert f"process {training.pid}" in told.stdout
    out, _ = training.communicate(timeout=120)
    assert training.returncode == 130, out
    state = trial_state(storage, cell.trial_id)
    assert (state.kind, state.detail) == ("partial", "asked to stop")
    assert "partial after step" in mixgrid("status", *words).stdout
    assert live_drivers(storage) == []
    assert [name for name in storage.names("drivers") if name.endswith(".stop")] == []


def test_a_second_train_of_a_held_trial_is_refused(training: subprocess.Popen[str], tmp_path: Path) -> None:
    told = mixgrid("train", str(tmp_path / "spec.json"), "--storage", str(tmp_path / "alone"))
    assert told.returncode == 2
    assert "is trained by the driver" in told.stderr


def test_a_driver_elsewhere_that_beats_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, beats = Storage(str(tmp_path)), itertools.count()
    write_driver(storage, "a-1", pid=1, started=0.0, host="elsewhere/1")
    monkeypatch.setattr(Storage, "modified", lambda *_: float(next(beats)))
    monkeypatch.setattr(Storage, "now", lambda _: 0.0)
    monkeypatch.setattr("orchestrator.lease.HEARTBEAT_SECONDS", 0.01)
    with pytest.raises(HeldElsewhere, match="process 1 on elsewhere/1"):
        await_release(storage, "a-1")


def test_a_driver_elsewhere_that_went_silent_is_waited_for_and_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    lease = Lease(storage, "t", ["a-1"])
    lease._write(finished=False)
    monkeypatch.setattr("orchestrator.lease.HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr("orchestrator.lease.STALE_SECONDS", 0.4)
    monkeypatch.setattr("orchestrator.lease.this_host", lambda: "here/2")
    started = time.monotonic()
    await_release(storage, "a-1")
    assert time.monotonic() - started > 0.2
    assert storage.exists(f"drivers/{lease.name}.json")
    assert not storage.exists(stop_path(lease.name))
