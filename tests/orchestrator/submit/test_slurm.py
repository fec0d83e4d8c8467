"""Slurm scripts: fixed texts, shellcheck, and what they must say."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from orchestrator.resources import Placement
from orchestrator.submit import slurm
from orchestrator.submit.ledger import JobState, record_of
from orchestrator.submit.request import Nodes, SubmitError
from orchestrator.submit.slurm import Script, Slurm, SlurmOptions, render_allocation, render_array
from orchestrator.submit.snapshot import Origin, Snapshot
from tests.orchestrator.conftest import small_table
from tests.orchestrator.submit.conftest import job
from trainer.spec import RunOptions

CELLS = small_table().cells()
FOLDER = "/shared/runs/submissions"
PYTHON = "/opt/env/bin/python"
MANY = SlurmOptions(
    time="12:00:00", at_once=4, lines=("--partition=gpu", "--account=papers"), setup=("module load cuda/12",)
)
ON_GPUS = RunOptions(storage="/shared/runs", data="/shared/data", device="cuda")


def array() -> Script:
    return render_array(job(), CELLS, Nodes(python=PYTHON), SlurmOptions(), FOLDER)


def torchrun_array() -> Script:
    asked = job(options=ON_GPUS, placement=Placement(2, 4), tracking_uri="http://mlflow:5000")
    return render_array(asked, CELLS, Nodes(python=PYTHON, memory="64G"), MANY, FOLDER)


def allocation() -> Script:
    asked = job(options=ON_GPUS, placement=Placement(2, 4), tracking_uri="http://mlflow:5000", max_concurrent=3)
    options = SlurmOptions(shape="allocation", lines=("--partition=gpu",), setup=("module load cuda/12",))
    return render_allocation(asked, Nodes(2, 32, 8, "500G", PYTHON), options, FOLDER)


SCRIPTS = {"array.sh": array, "torchrun-array.sh": torchrun_array, "allocation.sh": allocation}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_what_it_was(name: str, golden: Callable[[str, str], None]) -> None:
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/orchestrator/submit/test_slurm.py"""
    golden(name, SCRIPTS[name]().told())


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_passes_shellcheck(name: str) -> None:
    checked = subprocess.run(
        ["shellcheck", "-"],
        input=SCRIPTS[name]().told(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_an_array_has_an_element_per_cell_and_runs_no_ray() -> None:
    text = array().text
    assert "#SBATCH --array=0-1\n" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("    ") and "#" in line] == [
        cell.trial_id for cell in CELLS
    ]
    assert "ray" not in text.replace("array", "")


def test_only_several_workers_need_torchrun_and_its_ranks_get_the_signal() -> None:
    assert 'kill -USR1 "$worker"' in array().text
    assert "torch.distributed" not in array().text
    assert "torch.distributed.run --standalone --nproc-per-node=2 -m orchestrator.cli" in torchrun_array().text
    assert 'pkill -USR1 -P "$worker"' in torchrun_array().text


def test_the_warning_comes_as_long_before_the_limit_as_asked() -> None:
    script = render_array(job(), CELLS, Nodes(), SlurmOptions(grace_seconds=77), FOLDER)
    assert "#SBATCH --signal=B:USR1@77\n" in script.text


def test_mlflow_is_brought_up_to_date_by_a_second_job_that_waits() -> None:
    told = torchrun_array().told()
    assert "# sbatch --parsable --dependency=afterany:JOB" in told
    assert "track /home/me/small.py --seeds 0 --storage /shared/runs --tracking-uri http://mlflow:5000" in told
    assert array().tracking is None
    assert allocation().tracking is None  # the run on Ray mirrors by itself


def test_an_array_is_of_cells_on_one_node_each() -> None:
    for cells, nodes in (((), Nodes()), (CELLS, Nodes(count=2))):
        with pytest.raises(SubmitError, match="--shape array wants cells to train, and --nodes 1"):
            render_array(job(), cells, nodes, SlurmOptions(), FOLDER)


@pytest.mark.parametrize("folder", ["/my runs/submissions", "/runs%j/x", "/a$b"])
def test_a_folder_that_slurm_would_read_otherwise_is_refused(folder: str) -> None:
    with pytest.raises(SubmitError, match="Slurm cannot name a log in"):
        render_array(job(), CELLS, Nodes(), SlurmOptions(), folder)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("", JobState("ended")),
        ("PENDING\nPENDING\n", JobState("queued", "2 PENDING")),
        ("PENDING\nRUNNING\n", JobState("running", "1 PENDING, 1 RUNNING")),
        ("COMPLETING\n", JobState("running", "1 COMPLETING")),
    ],
)
def test_the_queue_says_where_a_job_stands(
    told: str, state: JobState, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(slurm, "_told", lambda *_words: told)
    record = record_of(job(), Snapshot({}, Origin()), "slurm", "")
    assert Slurm(tmp_path).state(record) == state


def test_without_slurm_a_job_cannot_be_sent_nor_asked_after(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SubmitError, match="there is no sbatch on this machine: .* --dry-run"):
        slurm.send(array())
    record = record_of(job(), Snapshot({}, Origin()), "slurm", "")
    assert Slurm(tmp_path).state(record).kind == "unknown"
