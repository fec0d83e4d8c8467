"""The real way through Ray: Tune, TorchTrainer, DDP, storage. Each run costs half a minute, so there are few."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.orchestrator.conftest import small_table
from trainer.checkpoint import from_bytes
from trainer.host import NoHost
from trainer.records import (
    Manifest,
    Storage,
    attempt_path,
    find_commits,
    read_result,
    trial_path,
    trial_state,
)
from trainer.run import run_trial
from trainer.spec import RunOptions

ROOT = Path(__file__).parents[2]
HUNGRY = """
from dataclasses import replace
from experiments.table import Row
from tests.orchestrator.conftest import small_table
from trainer.spec import Mix
SMALL = small_table()
HUNGRY = replace(SMALL, rows=(*SMALL.rows, Row("Hungry", Mix(), deviations=(("unlabeled_batch", 64),))))
"""
LONG = """
from tests.orchestrator.conftest import small_table
LONG = small_table(num_steps=900)
"""


def command(table: str, storage: str, places: dict[str, str], *more: str) -> list[str]:
    program = "from orchestrator.cli.app import main; main()"
    words = ["run", table, "--storage", storage, "--data", places["data"], "--cache", places["cache"], "--no-mlflow"]
    return [sys.executable, "-c", program, *words, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.mark.ray
def test_two_cells_with_two_workers_give_the_numbers_of_one_process_and_a_bad_one_fails_alone(
    trained: str, places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    storage = Storage(str(tmp_path / "runs"))
    ran = subprocess.run(
        command(f"{tmp_path / 'hungry.py'}:HUNGRY", "runs", places, "--workers", "2"),  # a place relative to the user
        capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False, timeout=400,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "failed Hungry@1/3#0: bad_spec_or_data: 8 unlabeled images are fewer than the batch of 64" in ran.stdout
    for cell in small_table().cells():
        result = read_result(storage, cell.trial_id)
        assert result is not None
        manifest = Manifest.find(storage, attempt_path(cell.trial_id, result.attempt, "manifest.json"))
        assert manifest is not None
        assert manifest.world_size == 2
        here = from_bytes(storage.read(trial_path(cell.trial_id, "weights.pt")))["student"]
        there = from_bytes(Storage(trained).read(trial_path(cell.trial_id, "weights.pt")))["student"]
        for name, tensor in there.items():
            torch.testing.assert_close(here[name], tensor, rtol=1e-3, atol=1e-4)


def wait_for_commits(storage: Storage, trial_ids: list[str], driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the driver ended before it could be killed"
        if any(find_commits(storage, trial_id) for trial_id in trial_ids):
            return
        time.sleep(0.1)
    pytest.fail("no checkpoint within 300 s")


@pytest.mark.ray
def test_a_driver_killed_in_the_midst_of_training_goes_on_from_its_checkpoints(
    places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "long.py").write_text(LONG)
    storage, table = Storage(str(tmp_path / "runs")), small_table(num_steps=900)
    run = command(str(tmp_path / "long.py"), storage.url, places, "--checkpoint-every", "25")
    driver = subprocess.Popen(run, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_commits(storage, [cell.trial_id for cell in table.cells()], driver)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    half_done = {cell.trial_id for cell in table.cells() if trial_state(storage, cell.trial_id).kind == "partial"}
    assert half_done
    subprocess.run(run, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL, timeout=400)
    for cell in table.cells():
        attempts = storage.names(trial_path(cell.trial_id, "attempts"))
        manifest = Manifest.find(storage, attempt_path(cell.trial_id, attempts[-1], "manifest.json"))
        assert manifest is not None
        assert (manifest.resumed_from_step > 0) == (cell.trial_id in half_done)
        undisturbed = RunOptions(storage=str(tmp_path / "undisturbed"), **places)
        run_trial(cell.spec, undisturbed, NoHost())
        killed, whole = read_result(storage, cell.trial_id), read_result(Storage(undisturbed.storage), cell.trial_id)
        assert killed is not None
        assert whole is not None
        assert killed.weights_sha256 == whole.weights_sha256
        assert [r.confusion for r in killed.evaluations] == [r.confusion for r in whole.evaluations]
