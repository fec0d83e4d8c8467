"""Submitting as a user meets it, up to the point where something would be sent."""

import shutil
from pathlib import Path

import pytest
import yaml

from orchestrator.cli.explaining import snapshots_of
from orchestrator.submit.ledger import SubmissionRecord, remember
from tests.orchestrator.cli.test_commands import mixgrid
from tests.orchestrator.submit.conftest import TABLE_FILE
from trainer.reading import read_failure
from trainer.records import Digests, Failure, Manifest, attempt_path, trial_path
from trainer.storage import Storage


@pytest.fixture
def sent(tmp_path: Path) -> str:
    """A user's table that needs nothing but the four rooms."""
    (tmp_path / "sent.py").write_text(TABLE_FILE)
    return str(tmp_path / "sent.py")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "runs"))


def name_in(script: str) -> str:
    return next(line for line in script.splitlines() if "--job-name=" in line).partition("=")[2]


def remembered(name: str, trial_ids: tuple[str, ...]) -> SubmissionRecord:
    """A record of a job at a job server that nobody reaches."""
    return SubmissionRecord(
        name=name, submission=name[:-2], attempt=1, backend="ray", backend_id=name, address="http://127.0.0.1:9",
        sent=0.0, host="elsewhere", table="sent", words=("sent.py",), trial_ids=trial_ids, options={}, snapshot="0",
        commit="", changed_files=(),
    )  # fmt: skip


def test_a_dry_run_prints_what_would_be_sent_and_writes_nothing(sent: str, storage: Storage) -> None:
    told = mixgrid("submit", sent, "--to", "slurm", "--storage", storage.url, "--dry-run")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("#!/usr/bin/env bash\n")
    assert "2 of 2 cells to train" in told.stderr
    assert "Supervised@1/3#1  supervised-" in told.stderr
    assert not storage.exists("submissions")
    assert not Path(storage.url).exists()


def test_the_id_does_not_depend_on_the_folder_or_the_backend(sent: str, tmp_path: Path, storage: Storage) -> None:
    shutil.copy(sent, tmp_path / "copy.py")
    one = mixgrid("submit", sent, "--to", "slurm", "--storage", storage.url, "--dry-run").stdout
    other = mixgrid(
        "submit", str(tmp_path / "copy.py"), "--to", "kuberay", "--storage", storage.url, "--data", "/d",
        "--claim", f"x:{tmp_path}", "--dry-run",
    )  # fmt: skip
    config, ray_job = yaml.safe_load_all(other.stdout)
    assert name_in(one) == ray_job["metadata"]["name"] == config["metadata"]["name"]


def test_kubernetes_is_only_shown_the_manifest_unless_asked(sent: str, storage: Storage, tmp_path: Path) -> None:
    told = mixgrid("submit", sent, "--to", "kuberay", "--storage", storage.url, "--claim", f"x:{tmp_path}")
    assert told.returncode == 0, told.stderr
    assert [document["kind"] for document in yaml.safe_load_all(told.stdout)] == ["ConfigMap", "RayJob"]
    assert not storage.exists("submissions")


def test_with_nodes_that_come_and_go_the_run_waits_and_has_no_more_trials_than_they_hold(
    sent: str, storage: Storage, tmp_path: Path
) -> None:
    words = ("submit", sent, "--to", "kuberay", "--storage", storage.url, "--claim", f"x:{tmp_path}")
    words += ("--nodes", "0", "--max-nodes", "4", "--gpus-per-node", "2", "--cpus-per-node", "8")
    unsaid = mixgrid(*words)
    assert (unsaid.returncode, unsaid.stdout) == (2, "")
    assert "say --device cuda, --device cpu or --gpus-per-worker" in unsaid.stderr
    for more, at_once in (((), "8"), (("--max-concurrent", "3"), "3"), (("--max-concurrent", "99"), "8")):
        told = mixgrid(*words, "--device", "cuda", *more)
        assert told.returncode == 0, told.stderr
        ray_job = list(yaml.safe_load_all(told.stdout))[-1]
        said = ray_job["spec"]["entrypoint"].split()
        assert "--wait-for-nodes" in said
        assert said[said.index("--max-concurrent") + 1] == at_once
        assert ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--wait-for-nodes", "--device", "cuda"), "Slurm brings no nodes to a job that runs"),
        (("--max-nodes", "4", "--device", "cuda"), "--max-nodes 4 is for kuberay"),
        (("--sbatch", "--time=1:00:00"), "--sbatch '--time=1:00:00' cannot be given: say --time TIME without --sbatch"),
        (("--time", "00:04:00"), "--grace-seconds 300 with --time 00:04:00"),
        (("--node-labels", "gpu=h100"), "on Slurm say --sbatch --constraint="),
        (("--tracking-uri", "sqlite:///mlflow.db"), "with four strokes"),
    ],
)
def test_what_would_not_do_on_slurm_is_refused_before_it_is_asked(
    words: tuple[str, ...], message: str, sent: str, storage: Storage
) -> None:
    told = mixgrid("submit", sent, "--to", "slurm", "--storage", storage.url, *words, "--dry-run")
    assert (told.returncode, told.stdout) == (2, "")
    assert message in told.stderr


def test_a_finished_table_is_not_submitted(trained: str, table_file: str) -> None:
    told = mixgrid("submit", table_file, "--to", "slurm", "--storage", trained)
    assert (told.returncode, told.stdout) == (0, "")
    assert "0 of 2 cells to train (2 done)" in told.stderr


def test_a_job_that_cannot_be_asked_after_counts_as_live_until_told_otherwise(sent: str, storage: Storage) -> None:
    words = ("submit", sent, "--to", "slurm", "--storage", storage.url)
    name = name_in(mixgrid(*words, "--dry-run").stdout)
    remember(storage, remembered(name, ("supervised-0",)))
    second = mixgrid(*words)
    assert (second.returncode, second.stdout) == (0, f"{name}\n")
    assert "was submitted to ray at http://127.0.0.1:9 from elsewhere" in second.stderr
    assert "nothing was sent" in second.stderr
    assert "submit with --again" in second.stderr
    again = mixgrid(*words, "--again", "--dry-run")
    assert name_in(again.stdout) == f"{name[:-1]}2"


def test_what_could_not_be_sent_leaves_nothing_and_removes_nothing(sent: str, storage: Storage) -> None:
    words = ("--storage", storage.url, "--seeds", "0")
    shown = mixgrid("submit", sent, "--to", "slurm", *words, "--dry-run").stderr
    trial_id = shown.split("Supervised@1/3#0  ")[1].split()[0]
    failure = Failure(
        trial_id=trial_id, attempt="a", step=3, reason="error", message="no luck", trace_tail="", failed=0.0
    )
    storage.write(trial_path(trial_id, "failure.json"), failure.sealed())
    told = mixgrid("submit", sent, "--to", "ray", "--address", "http://127.0.0.1:9", *words, "--retry-failed")
    assert told.returncode == 2
    assert "no job server answers at --address http://127.0.0.1:9" in told.stderr
    assert storage.names("submissions") == []
    assert read_failure(storage, trial_id) == failure


def test_another_submission_with_the_same_cells_is_named(trained: str, storage: Storage, sent: str) -> None:
    words = ("submit", sent, "--to", "slurm", "--storage", storage.url, "--dry-run")
    trial_id = mixgrid(*words).stderr.split("Supervised@1/3#0  ")[1].split()[0]
    remember(storage, remembered("other-000000000000-1", (trial_id,)))
    assert "note: 1 of these cells are also in other-000000000000-1 (ray)" in mixgrid(*words).stderr


def test_status_logs_and_cancel_know_of_the_job(sent: str, storage: Storage) -> None:
    script = mixgrid("submit", sent, "--to", "slurm", "--storage", storage.url, "--dry-run")
    trial_id = script.stderr.split("Supervised@1/3#0  ")[1].split()[0]
    remember(storage, remembered("sent-000000000000-1", (trial_id,)))
    words = (sent, "--storage", storage.url)
    assert "sent-000000000000-1 was submitted to ray" in mixgrid("status", *words).stdout
    stopped = mixgrid("cancel", *words)
    assert "sent-000000000000-1 was submitted to ray" in stopped.stdout
    assert "cannot be asked from here" in stopped.stdout
    told = mixgrid("logs", *words, "--job")
    assert told.returncode == 2
    assert "no job server answers" in told.stderr


def test_logs_want_a_cell_or_a_job(sent: str, storage: Storage) -> None:
    told = mixgrid("logs", sent, "--storage", storage.url)
    assert (told.returncode, "name a CELL" in told.stderr) == (2, True)
    nothing = mixgrid("logs", sent, "--job", "--storage", storage.url)
    assert "no job of table sent was submitted" in nothing.stderr


def test_the_snapshots_behind_a_cell_are_named_once_each(storage: Storage) -> None:
    remember(storage, remembered("sent-000000000000-1", ("t",)))
    for number, name in enumerate(["sent-000000000000-1", "sent-000000000000-1", "", "gone-1"]):
        manifest = Manifest(
            trial_id="t", attempt=f"a{number}", started=1.0, resumed_from_step=0, resumed_from_attempt=None,
            digests=Digests(code="c", data="d", split="s", weights="w", precision="float32"), versions={}, host="h",
            pid=1, device="cpu", world_size=1, threads=1, options={"submission": name} if name else {},
            class_names=("a", "b"), num_labeled=1, num_unlabeled=1, labeled_names=("x",),
        )  # fmt: skip
        storage.write(attempt_path("t", f"a{number}", "manifest.json"), manifest.sealed())
    assert list(snapshots_of(storage, "t")) == [
        "snapshot 0 of sent-000000000000-1: code that git does not know",
        "gone-1, whose record is gone",
    ]
