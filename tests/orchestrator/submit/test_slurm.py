"""Slurm scripts: fixed texts, shellcheck, and what they must say."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from orchestrator.resources import Placement
from orchestrator.submit import slurm
from orchestrator.submit.ledger import JobState, record_of
from orchestrator.submit.request import Nodes, SubmitError
from orchestrator.submit.slurm import Slurm
from orchestrator.submit.slurm_options import SlurmOptions
from orchestrator.submit.slurm_script import Script, render_allocation, render_array
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


def array_with_everything() -> Script:
    asked = job(options=ON_GPUS, retry_failed=True, tracking_uri="sqlite:////my home/mlflow.db")
    lines = ("--qos=high", "-A papers", "--gres=gpu:a100:1", "--constraint=a100&ib", "--mail-type=END,FAIL")
    setup = ("module purge", "module load cuda/12", "export NCCL_DEBUG=INFO")
    options = SlurmOptions(time="2-12", grace_seconds=1, at_once=1, lines=lines, setup=setup)
    return render_array(asked, CELLS, Nodes(memory="8G", cpus=16, gpus=1, python="/opt/my env/python"), options, FOLDER)


def allocation_of_one_node() -> Script:
    options = SlurmOptions(shape="allocation", time="UNLIMITED", lines=("--gres=gpu:4",), setup=("module load x",))
    return render_allocation(job(retry_failed=True), Nodes(python="/opt/my env/python"), options, FOLDER)


ALL_SCRIPTS = [*SCRIPTS.values(), array_with_everything, allocation_of_one_node]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_what_it_was(name: str, golden: Callable[[str, str], None]) -> None:
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/orchestrator/submit/test_slurm.py"""
    golden(name, SCRIPTS[name]().told())


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("make", ALL_SCRIPTS)
def test_a_script_passes_shellcheck(make: Callable[[], Script]) -> None:
    script = make()
    for text in filter(None, (script.text, script.told(), script.tracking)):
        checked = subprocess.run(["shellcheck", "-"], input=text, capture_output=True, text=True, check=False)
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
    assert "sbatch --dependency=afterany:ID" in told
    assert "track inputs/0-small.py --seeds 0 --storage /shared/runs --tracking-uri http://mlflow:5000" in told
    assert array().tracking is None
    assert allocation().tracking is None  # the run on Ray mirrors by itself


def test_the_second_job_is_paid_by_the_same_and_asks_for_no_devices() -> None:
    tracking = torchrun_array().tracking
    assert tracking is not None
    asked = [line for line in tracking.splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --partition=gpu" in asked
    assert "#SBATCH --account=papers" in asked
    assert not any("gpus" in line or "array" in line or "signal" in line for line in asked)
    assert "\nmodule load cuda/12\n" in tracking
    assert 'zipfile -e /shared/runs/submissions/small-46c312bfb9dc-1.zip "$code"' in tracking


@pytest.mark.parametrize(("time", "asked"), [("24:00:00", "00:30:00"), ("00:10:00", "00:10:00"), ("1-0", "00:30:00")])
def test_the_second_job_is_no_longer_than_the_first(time: str, asked: str) -> None:
    options = SlurmOptions(time=time)
    script = render_array(job(tracking_uri="http://mlflow:5000"), CELLS, Nodes(), options, FOLDER)
    assert script.tracking is not None
    assert f"#SBATCH --time={asked}\n" in script.tracking


def test_a_second_job_that_is_refused_is_told_of_and_the_first_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(words: list[str], text: str) -> str:
        if text == "after":
            assert words[-1] == "--dependency=afterany:7"
            raise SubmitError("sbatch refused: no such account")
        return "7;cluster\n"

    said: list[str] = []
    monkeypatch.setattr(slurm, "_told", told)
    assert slurm.send(Script("first", "after"), said.append) == "7"
    assert said == [
        "note: the job that brings MLflow up to date was not taken (sbatch refused: no such account); "
        "`mixgrid track` does it later"
    ]


def test_what_a_user_sources_does_not_meet_unset_variables_as_errors() -> None:
    text = torchrun_array().text
    assert text.index("module load cuda/12") < text.index("set -uo pipefail")


def test_gpus_that_a_line_asks_for_replace_ours() -> None:
    for line in ("--gres=gpu:a100:2", "--gres gpu:2", "--gpus-per-node=a100:2", "-G 2"):
        script = render_array(job(options=ON_GPUS), CELLS, Nodes(), SlurmOptions(lines=(line,)), FOLDER)
        assert f"#SBATCH {line}\n" in script.text
        assert "--gpus-per-node=1" not in script.text
    script = render_array(job(options=ON_GPUS), CELLS, Nodes(), SlurmOptions(lines=("--gres=tmpdisk:9",)), FOLDER)
    assert "#SBATCH --gpus-per-node=1\n" in script.text


def test_a_whole_node_comes_with_its_memory() -> None:
    options = SlurmOptions(shape="allocation")
    assert "#SBATCH --mem=0\n" in render_allocation(job(), Nodes(), options, FOLDER).text
    given = render_allocation(job(), Nodes(memory="500G"), options, FOLDER).text
    assert "--mem=0" not in given
    assert "#SBATCH --mem=500G\n" in given
    assert "--mem" not in array().text  # a part of a node gets what the partition gives


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
        ("PENDING Priority\nPENDING Priority\n", JobState("queued", "2 PENDING (Priority)")),
        ("PENDING None\nRUNNING None\n", JobState("running", "1 PENDING, 1 RUNNING")),
        ("PENDING ReqNodeNotAvail, x\n", JobState("queued", "1 PENDING (ReqNodeNotAvail, x)")),
        ("COMPLETING None\n", JobState("running", "1 COMPLETING")),
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
        slurm.send(array(), print)
    record = record_of(job(), Snapshot({}, Origin()), "slurm", "")
    assert Slurm(tmp_path).state(record).kind == "unknown"
