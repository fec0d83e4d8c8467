"""The real way through Ray: Tune, TorchTrainer, DDP, storage. Each run costs half a minute, so there are few."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.orchestrator.conftest import small_table
from trainer.checkpoint import from_bytes
from trainer.host import NoHost
from trainer.records import Manifest, Storage, attempt_path, read_result, trial_path
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
LONG = small_table(num_steps=600)
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


@pytest.mark.ray
def test_a_cell_outlives_the_kill_of_its_worker_its_trial_process_and_its_driver(
    places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "long.py").write_text(LONG)
    words = ["drill", str(tmp_path / "long.py"), "--storage", "runs", "--checkpoint-every", "40"]
    words += ["--data", places["data"], "--cache", places["cache"]]
    program = "from orchestrator.cli.app import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False, timeout=1200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = (tmp_path / "runs/drill/report.md").read_text()
    assert report.count("| equal |") == 6
    storage, cell = Storage(str(tmp_path / "runs/drill/under-fire")), small_table(num_steps=600).cells()[-1]
    attempts = storage.names(trial_path(cell.trial_id, "attempts"))
    manifests = [Manifest.find(storage, attempt_path(cell.trial_id, a, "manifest.json")) for a in attempts]
    assert [0 < manifest.resumed_from_step < 600 for manifest in manifests][:4] == [False, True, True, True]
    undisturbed = RunOptions(storage=str(tmp_path / "undisturbed"), **places)
    run_trial(cell.spec, undisturbed, NoHost())  # the same digits without Ray
    killed, whole = read_result(storage, cell.trial_id), read_result(Storage(undisturbed.storage), cell.trial_id)
    assert killed.weights_sha256 == whole.weights_sha256
