"""Jobs on a real Slurm of one node: twice is once, a warning before the limit, back into the queue, stopping."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.table import find_table
from tests.slurm_cluster import running_slurm, why_absent
from trainer.reading import read_result, trial_state
from trainer.records import (
    Manifest,
    attempt_path,
    trial_path,
)
from trainer.storage import Storage

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_absent()), reason=why_absent())]

Mixgrid = Callable[..., subprocess.CompletedProcess[str]]


def commands_of(environment: dict[str, str], folder: Path, places: dict[str, str]) -> Mixgrid:
    def mixgrid(command: str, *words: str) -> subprocess.CompletedProcess[str]:
        more = ["--data", places["data"], "--cache", places["cache"], "--device", "cpu"] if command == "submit" else []
        program = [sys.executable, "-m", "orchestrator.cli", command, "sent.py", *words, *more]
        return subprocess.run(
            [*program, "--storage", "runs"], cwd=folder, capture_output=True, text=True, check=False, timeout=280,
            env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        )  # fmt: skip

    return mixgrid


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    with running_slurm(tmp_path / "slurm") as environment:
        yield environment


@pytest.fixture
def mixgrid(slurm: dict[str, str], sent_file: Path, places: dict[str, str]) -> Mixgrid:
    return commands_of(slurm, sent_file.parent, places)


def lengthen(path: Path, num_steps: int) -> list[str]:
    """Give the table on disk more steps; returns its trials."""
    text = path.read_text().replace("num_steps=12", f"num_steps={num_steps}")
    path.write_text(text.replace("every=6", f"every={num_steps}"))
    return trials_of(path)


def trials_of(path: Path) -> list[str]:
    return [cell.trial_id for cell in find_table(str(path), {}).cells()]


def resumed_at(storage: Storage, trial_id: str) -> list[int]:
    attempts = storage.names(trial_path(trial_id, "attempts"))
    manifests = [Manifest.find(storage, attempt_path(trial_id, attempt, "manifest.json")) for attempt in attempts]
    return [manifest.resumed_from_step for manifest in manifests]


def test_an_array_trains_every_cell_once_however_often_it_is_submitted(mixgrid: Mixgrid, sent_file: Path) -> None:
    first, second = mixgrid("submit", "--to", "slurm"), mixgrid("submit", "--to", "slurm", "--follow")
    assert first.returncode == 0, first.stderr
    name = first.stdout.strip()
    assert "nothing was sent: it does this work already" in second.stderr
    assert (second.returncode, second.stdout.count(": done")) == (0, 2), second.stdout + second.stderr
    storage = Storage(str(sent_file.parent / "runs"))
    assert all(read_result(storage, i) for i in trials_of(sent_file))
    assert storage.names("submissions") == [f"{name}{end}" for end in ("-1_0.txt", "-1_1.txt", ".json", ".zip")]
    third = mixgrid("submit", "--to", "slurm")
    assert (third.returncode, third.stdout) == (0, "")
    assert "0 of 2 cells to train (2 done)" in third.stderr
    assert "done" in mixgrid("logs", "--job").stdout


@pytest.mark.chaos
def test_before_its_limit_a_job_checkpoints_and_goes_on_in_a_later_one(mixgrid: Mixgrid, sent_file: Path) -> None:
    trial_ids = lengthen(sent_file, 6000)
    limit = ["--time", "00:01:00", "--grace-seconds", "50"]
    ran = mixgrid("submit", "--to", "slurm", "--follow", *limit, "--checkpoint-every", "100000")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "time is nearly over: back into the queue" in ran.stdout
    storage = Storage(str(sent_file.parent / "runs"))
    for trial_id in trial_ids:
        began, *later = resumed_at(storage, trial_id)
        assert began == 0
        assert later == sorted(later)
        assert 0 < later[0] < 6000
        assert trial_state(storage, trial_id).kind == "done"


def test_cancel_stops_what_runs_and_what_waits(mixgrid: Mixgrid, sent_file: Path, slurm: dict[str, str]) -> None:
    trial_ids = lengthen(sent_file, 100_000)
    sent = mixgrid("submit", "--to", "slurm", "--max-concurrent", "1")
    assert sent.returncode == 0, sent.stderr
    storage = Storage(str(sent_file.parent / "runs"))
    deadline = time.monotonic() + 60
    while not storage.names("drivers") and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(3)
    stopped = mixgrid("cancel")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "all have ended; `mixgrid submit` goes on" in stopped.stdout
    assert [trial_state(storage, i).kind for i in trial_ids] == ["partial", "missing"]
    queue = subprocess.run(["squeue", "--noheader"], env=slurm, capture_output=True, text=True, check=True)
    assert queue.stdout == ""
    again = mixgrid("submit", "--to", "slurm", "--dry-run")
    assert f"--job-name={sent.stdout.strip()[:-1]}2\n" in again.stdout


@pytest.mark.chaos
@pytest.mark.ray
def test_one_allocation_runs_the_grid_on_ray_and_goes_on_after_its_limit(
    sent_file: Path, places: dict[str, str], tmp_path: Path
) -> None:
    trial_ids = lengthen(sent_file, 3000)
    with running_slurm(tmp_path / "slurm", apart=True) as environment:
        mixgrid = commands_of({**environment, "RAY_AUTH_MODE": "disabled"}, sent_file.parent, places)
        words = ["--shape", "allocation", "--cpus-per-node", "2", "--time", "00:02:00", "--grace-seconds", "85"]
        ran = mixgrid("submit", "--to", "slurm", "--follow", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    storage = Storage(str(sent_file.parent / "runs"))
    assert [trial_state(storage, i).kind for i in trial_ids] == ["done", "done"]
    assert "time is nearly over: back into the queue" in ran.stdout


def test_two_ranks_of_an_element_hear_the_warning(slurm: dict[str, str], mixgrid: Mixgrid, sent_file: Path) -> None:
    trial_ids = lengthen(sent_file, 100_000)
    sent = mixgrid("submit", "--to", "slurm", "--workers", "2", "--seeds", "0")
    assert sent.returncode == 0, sent.stderr
    storage, steps = Storage(str(sent_file.parent / "runs")), trial_path(trial_ids[0], "attempts")
    deadline = time.monotonic() + 60
    while not (names := storage.names(steps)) and time.monotonic() < deadline:
        time.sleep(0.5)
    while not storage.exists(attempt_path(trial_ids[0], names[0], "progress.json")) and time.monotonic() < deadline:
        time.sleep(0.5)
    name = f"--name={sent.stdout.strip()}"
    subprocess.run(["scancel", "--batch", "--signal=USR1", name], env=slurm, check=True)
    while len(storage.names(steps)) < 2 and time.monotonic() < deadline + 60:
        time.sleep(0.5)
    subprocess.run(["scancel", name], env=slurm, check=True)
    began, later = resumed_at(storage, trial_ids[0])[:2]
    assert (began, later > 0) == (0, True)
