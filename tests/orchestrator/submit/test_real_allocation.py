"""Ray in one allocation of a real Slurm, on hosts with their own names and addresses: warned, requeued, cancelled."""

import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.table import find_table
from orchestrator.submit.request import Nodes
from orchestrator.submit.slurm import send
from orchestrator.submit.slurm_options import SlurmOptions
from orchestrator.submit.slurm_script import render_allocation
from tests.orchestrator.submit.conftest import TABLE_FILE, job
from tests.orchestrator.submit.test_real_slurm import ROOT, Mixgrid, commands_of, lengthen, resumed_at
from tests.slurm_cluster import running_slurm, why_absent
from tests.slurm_nodes import why_no_hosts
from trainer.reading import read_manifests, read_result, trial_state
from trainer.storage import Storage

REASON = why_absent() or why_no_hosts()
pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.skipif(bool(REASON), reason=REASON)]
BACK = "time is nearly over: back into the queue"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    with running_slurm(tmp_path / "slurm", num_hosts=2) as environment:
        yield environment


class Allocation:
    """A job of one allocation of the table on disk, and what it has printed."""

    def __init__(self, mixgrid: Mixgrid, slurm: dict[str, str], folder: Path, *words: str) -> None:
        self.mixgrid, self.slurm, self.folder = mixgrid, slurm, folder / "runs" / "submissions"
        self.words = ["submit", "--to", "slurm", "--shape", "allocation", "--cpus-per-node", "2", *words]
        sent = mixgrid(*self.words)
        assert sent.returncode == 0, sent.stderr
        self.name = sent.stdout.strip()

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob(f"{self.name}-*.txt"))

    def await_in_log(self, text: str, *, times: int = 1, seconds: float = 200.0) -> None:
        deadline = time.monotonic() + seconds
        while self.log.count(text) < times:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log}"
            time.sleep(0.5)

    def await_training(self, storage: Storage, trial_id: str, *, seconds: float = 150.0) -> None:
        """Return when an attempt at a trial has begun, and a second more."""
        deadline = time.monotonic() + seconds
        while not read_manifests(storage, trial_id)[0]:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.2)
        time.sleep(1)

    def warn(self) -> None:
        """What Slurm does before a job's time is over."""
        subprocess.run(["scancel", "--batch", "--signal=USR1", f"--name={self.name}"], env=self.slurm, check=True)

    def await_end(self, seconds: float = 300.0) -> None:
        deadline = time.monotonic() + seconds
        while subprocess.run(["squeue", "--noheader"], env=self.slurm, capture_output=True, check=True).stdout:
            assert time.monotonic() < deadline, self.log
            time.sleep(1)


# They stand in for Ray, to see what the script itself does when Ray goes badly; a daemon of it outlives its parent.
PYTHON = """#!/usr/bin/env bash
if [[ $* == *"orchestrator.cli run"* ]]; then sleep 2; echo "the last line"; exit 3; fi
exec {python} "$@"
"""
RAY = r"""#!/usr/bin/env bash
for word in "$@"; do if [[ $word == --temp-dir=* ]]; then folder=${word#*=}; fi; done
mkdir -p "$folder/session"
setsid bash -c "trap '' TERM; exec -a 'stand-in --dir=$folder/session' sleep 60" &
printf 'noise\tVINFO noise\n'
while [[ $1 != -- ]]; do shift; done
sleep 1
if [[ $SLURM_NODEID -eq 0 ]]; then "${@:2}"; else sleep 60; fi
"""


def stand_ins(folder: Path) -> Path:
    """Programs instead of Python's grid and of Ray; gives that of Python."""
    for name, text in {"python": PYTHON.format(python=sys.executable), "ray": RAY}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o700)
    with zipfile.ZipFile(folder / f"{job().name}.zip", "w") as archive:
        for name in ("orchestrator/__init__.py", "orchestrator/submit/__init__.py", "orchestrator/submit/facing.py"):
            archive.write(ROOT / name, name)
    return folder / "python"


def test_the_head_ends_the_step_with_its_status_and_nothing_stays_behind_on_either_host(
    slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PATH", "SLURM_CONF", "TMPDIR"):
        monkeypatch.setenv(name, slurm[name])
    nodes, options = Nodes(2, 2, python=str(stand_ins(tmp_path))), SlurmOptions(shape="allocation")
    number = send(render_allocation(job(), nodes, options, str(tmp_path)), print)
    deadline = time.monotonic() + 40
    while subprocess.run(["squeue", "--noheader"], capture_output=True, check=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    log = (tmp_path / f"{job().name}-{number}.txt").read_text()
    shown = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True).stdout
    assert "ExitCode=3:0" in shown
    assert "the last line\n" in log
    assert "VINFO" not in log
    assert list((tmp_path / "slurm").glob("tmp-node*/*")) == []
    left = subprocess.run(["pgrep", "-f", "^stand-in --dir=/var/tmp/mg"], capture_output=True, text=True)
    assert left.stdout == ""


def test_two_hosts_give_the_table_of_a_plain_run_though_warned_twice(
    slurm: dict[str, str], sent_file: Path, places: dict[str, str]
) -> None:
    trial_ids = lengthen(sent_file, 3000)
    mixgrid = commands_of(slurm, sent_file.parent, places)
    sent = Allocation(mixgrid, slurm, sent_file.parent, "--nodes", "2", "--checkpoint-every", "100000")
    second = mixgrid(*sent.words)
    assert (second.returncode, second.stdout) == (0, f"{sent.name}\n")
    assert "nothing was sent: it does this work already" in second.stderr
    sent.await_in_log("Starting Ray cluster head")
    sent.warn()  # before there is a run
    sent.await_in_log(BACK)
    sent.await_in_log("2 running", seconds=200)
    storage = Storage(str(sent_file.parent / "runs"))
    sent.await_training(storage, trial_ids[0])
    sent.warn()
    sent.await_in_log(BACK, times=2)
    sent.await_end()
    assert [trial_state(storage, i).kind for i in trial_ids] == ["done", "done"], sent.log
    resumed = [resumed_at(storage, i) for i in trial_ids]
    assert any(0 < steps[-1] < 3000 for steps in resumed), resumed
    assert "VINFO" not in sent.log
    left = [path.name for path in (sent_file.parent / "slurm").glob("tmp-node*/*")]
    assert [name for name in left if not name.startswith("torchinductor_")] == []  # torch's own cache stays
    plain = commands_of(slurm, sent_file.parent, places, "plain")
    ran = plain("run", "--no-mlflow")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = mixgrid("table", "--format", "csv").stdout
    assert "Supervised" in table
    assert table == plain("table", "--format", "csv").stdout


def test_an_allocation_that_is_cancelled_leaves_checkpoints_and_goes_on_when_submitted_again(
    slurm: dict[str, str], sent_file: Path, places: dict[str, str]
) -> None:
    trial_ids = lengthen(sent_file, 100_000)
    mixgrid = commands_of(slurm, sent_file.parent, places)
    sent = Allocation(mixgrid, slurm, sent_file.parent)
    storage = Storage(str(sent_file.parent / "runs"))
    sent.await_training(storage, trial_ids[0])
    stopped = mixgrid("cancel")
    assert stopped.returncode == 0, stopped.stdout + sent.log
    assert "all have ended; `mixgrid submit` goes on" in stopped.stdout
    sent.await_end(60)
    assert BACK not in sent.log
    assert trial_state(storage, trial_ids[0]).kind == "partial"
    again = mixgrid("submit", "--to", "slurm", "--shape", "allocation", "--dry-run")
    assert f"--job-name={sent.name[:-1]}2\n" in again.stdout


def steps_in(seconds: float, places: dict[str, str], folder: Path) -> int:
    """How many steps of the table's trials one of them makes here in this time, with the machine to itself."""
    table, spec, storage = folder / "measured.py", folder / "measured.json", Storage(str(folder / "measured"))
    table.write_text(TABLE_FILE)
    num_steps = 1000
    trial_id = lengthen(table, num_steps)[0]
    cell = next(cell for cell in find_table(str(table), {}).cells() if cell.trial_id == trial_id)
    spec.write_text(cell.spec.model_dump_json())
    program = [
        sys.executable,
        "-m",
        "orchestrator.cli",
        "train",
        str(spec),
        "--storage",
        storage.name,
        "--device",
        "cpu",
    ]
    subprocess.run([*program, "--data", places["data"], "--cache", places["cache"]], cwd=ROOT, check=True)
    result = read_result(storage, trial_id)
    assert result is not None
    return int(seconds * num_steps / result.wall_seconds)


def test_one_allocation_runs_the_grid_on_ray_and_goes_on_after_its_limit(
    sent_file: Path, places: dict[str, str], tmp_path: Path
) -> None:
    trial_ids = lengthen(
        sent_file, steps_in(130.0, places, tmp_path)
    )  # the warning comes after 150 s, start-up and all
    with running_slurm(tmp_path / "slurm", apart=True) as environment:
        mixgrid = commands_of(environment, sent_file.parent, places, seconds=1200.0)
        words = ["--shape", "allocation", "--cpus-per-node", "2", "--time", "00:04:00", "--grace-seconds", "90"]
        ran = mixgrid("submit", "--to", "slurm", "--follow", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    storage = Storage(str(sent_file.parent / "runs"))
    assert [trial_state(storage, i).kind for i in trial_ids] == ["done", "done"]
    assert BACK in ran.stdout
