"""Jobs on a real Slurm of one node: twice is once, a warning before the limit, back into the queue, stopping."""

import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.table import find_table
from orchestrator.submit.request import Nodes, SubmitError
from orchestrator.submit.slurm import send
from orchestrator.submit.slurm_options import SlurmOptions
from orchestrator.submit.slurm_script import render_array
from tests.orchestrator.conftest import small_table
from tests.orchestrator.submit.conftest import job
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


def commands_of(
    environment: dict[str, str], folder: Path, places: dict[str, str], storage: str = "runs", *, seconds: float = 560.0
) -> Mixgrid:
    """The command on the table `sent.py`, in its folder, for so many seconds at most."""
    those_of_trials = ["--data", places["data"], "--cache", places["cache"], "--device", "cpu"]

    def mixgrid(command: str, *words: str) -> subprocess.CompletedProcess[str]:
        more = those_of_trials if command in ("submit", "run") else []
        program = [sys.executable, "-m", "orchestrator.cli", command, "sent.py", *words, *more]
        return subprocess.run(
            [*program, "--storage", storage], cwd=folder, capture_output=True, text=True, check=False, timeout=seconds,
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


def test_an_array_trains_every_cell_once_however_often_it_is_submitted_and_mlflow_is_told(
    mixgrid: Mixgrid, sent_file: Path
) -> None:
    tracked = ["--tracking-uri", f"sqlite:///{sent_file.parent}/mlflow.db"]
    submit = ["submit", "--to", "slurm", *tracked]
    first, second = mixgrid(*submit), mixgrid(*submit, "--follow")
    assert first.returncode == 0, first.stderr
    name = first.stdout.strip()
    assert "nothing was sent: it does this work already" in second.stderr
    assert (second.returncode, second.stdout.count(": done")) == (0, 2), second.stdout + second.stderr
    storage = Storage(str(sent_file.parent / "runs"))
    assert all(read_result(storage, i) for i in trials_of(sent_file))
    files = [re.sub(r"track-\d+", "track-N", file) for file in storage.names("submissions")]
    assert files == [f"{name}{end}" for end in ("-1_0.txt", "-1_1.txt", "-track-N.txt", ".json", ".zip")]
    checked = mixgrid("track", "--check", *tracked)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "every number is the same"), checked.stdout
    third = mixgrid(*submit)
    assert (third.returncode, third.stdout) == (0, "")
    assert "0 of 2 cells to train (2 done)" in third.stderr
    assert "done" in mixgrid("logs", "--job").stdout


@pytest.fixture(scope="module")
def slurm_of_all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A node with a feature and two devices that Slurm takes for GPUs."""
    with running_slurm(tmp_path_factory.mktemp("slurm"), features="a100", gpus=2) as environment:
        yield environment


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--partition=nope", "invalid partition specified: nope"),
        ("--constraint=h100", "Invalid feature specification"),
        ("--gres=gpu:9", "Requested node configuration is not available"),
        ("--nonsense", "unrecognized option '--nonsense'"),
    ],
)
def test_an_option_that_slurm_does_not_know_is_said_in_its_words(
    option: str, answer: str, slurm_of_all_kinds: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm_of_all_kinds[name])
    script = render_array(job(), small_table().cells(), Nodes(), SlurmOptions(lines=(option,)), str(tmp_path))
    with pytest.raises(SubmitError, match=f"(?s)sbatch refused: .*{answer}"):
        send(script, print)


def test_a_refused_job_is_forgotten_and_what_slurm_takes_is_passed_on(
    slurm_of_all_kinds: dict[str, str], sent_file: Path, places: dict[str, str]
) -> None:
    mixgrid = commands_of(slurm_of_all_kinds, sent_file.parent, places)
    refused = mixgrid("submit", "--to", "slurm", "--sbatch", "--partition=nope")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "sbatch refused: sbatch: error: invalid partition specified: nope" in refused.stderr
    assert not list((sent_file.parent / "runs" / "submissions").glob("*.json"))
    words = ["--time", "00:09:00", "--grace-seconds", "60", "--memory-per-node", "1M"]
    for line in ("--partition=short", "--constraint=a100", "--gres=gpu:1", "--cpus-per-task=2", "--hold"):
        words += ["--sbatch", line]
    taken = mixgrid("submit", "--to", "slurm", *words)
    assert taken.returncode == 0, taken.stderr
    shown = subprocess.run(["scontrol", "show", "job"], env=slurm_of_all_kinds, capture_output=True, text=True).stdout
    for fact in ("Partition=short", "Features=a100", "TresPerNode=gres:gpu:1", "CPUs/Task=2", "MinMemoryNode=1M"):
        assert fact in shown
    assert "TimeLimit=00:09:00" in shown
    assert "queued (2 PENDING (JobHeldUser))" in mixgrid("submit", "--to", "slurm").stderr


HANGING = """#!/usr/bin/env bash
if [[ $* == *zipfile* ]]; then exec {python} "$@"; fi
trap '' USR1 TERM
echo "hangs"
while true; do sleep 0.2; done
"""


def test_a_trial_that_does_not_hear_the_warning_goes_back_into_the_queue_all_the_same(
    slurm_of_all_kinds: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm_of_all_kinds[name])
    (python := tmp_path / "python").write_text(HANGING.format(python=sys.executable))
    python.chmod(0o700)
    zipfile.ZipFile(tmp_path / f"{job().name}.zip", "w").close()
    options = SlurmOptions(grace_seconds=4)
    script = render_array(job(), small_table().cells()[:1], Nodes(python=str(python)), options, str(tmp_path))
    number = send(script, print)
    log = tmp_path / f"{job().name}-{number}_0.txt"
    await_in(log, "hangs")
    subprocess.run(["scancel", "--batch", "--signal=USR1", number], check=True)
    await_in(log, "DUE TO JOB REQUEUE")
    assert "no checkpoint within 3 s" in log.read_text()
    shown = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True)
    assert "Restarts=1" in shown.stdout
    subprocess.run(["scancel", "--signal=KILL", number], check=True)


def await_in(log: Path, text: str) -> None:
    """Return once a job has printed something; give up after half a minute."""
    deadline = time.monotonic() + 30
    while not (log.exists() and text in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert text in log.read_text()


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
