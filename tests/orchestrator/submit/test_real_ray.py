"""A real job server with token authentication: twice is once, the snapshot trains, cancel, exit codes, refusals."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.submit.ledger import submission_called
from tests.orchestrator.submit.conftest import ROOT, Mixgrid, mixgrid_on, recorded_manifests
from tests.ray_cluster import Cluster, running_cluster, why_absent
from trainer.code import code_digest
from trainer.reading import find_commits, read_result
from trainer.storage import Storage

pytestmark = [
    pytest.mark.ray,
    pytest.mark.chaos,
    pytest.mark.skipif(bool(why_absent()), reason=why_absent()),
]
TO_RAY = ("--to", "ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The four rooms, to be edited."""
    for room in ("trainer", "experiments", "orchestrator", "results"):
        shutil.copytree(ROOT / room, tmp_path / "code" / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "code"


@pytest.fixture
def mixgrid(cluster: Cluster, code: Path, sent_file: Path, places: dict[str, str]) -> Mixgrid:
    return mixgrid_on(cluster.environment, sent_file, places, code)


@pytest.fixture
def storage(sent_file: Path) -> Storage:
    return Storage(str(sent_file.parent / "runs"))


def test_twice_is_one_job_and_it_runs_the_code_as_it_was(
    cluster: Cluster, mixgrid: Mixgrid, code: Path, storage: Storage
) -> None:
    one_at_a_time = (*TO_RAY, "--max-concurrent", "1")
    first = mixgrid("submit", *one_at_a_time)
    assert first.returncode == 0, first.stdout + first.stderr
    name = first.stdout.strip()
    with (code / "trainer" / "losses.py").open("a") as losses:
        losses.write("ANOTHER_NUMBER = 2.0\n")
    assert not any(read_result(storage, trial_id) for trial_id in storage.names("trials")), "edited while cells wait"
    second = mixgrid("submit", *one_at_a_time)
    assert (second.returncode, second.stdout.strip()) == (0, name), second.stderr
    assert "nothing was sent: it does this work already" in second.stderr
    followed = mixgrid("submit", *one_at_a_time, "--follow")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert f"{name} ended (SUCCEEDED" in followed.stderr
    assert "2 done" in followed.stdout, "what the job prints is printed"
    assert jobs_on(cluster).count(name) == 1
    trained = {manifest.digests.code for manifest in recorded_manifests(storage)}
    assert trained == {code_digest()}, "of these rooms, which nobody edited"
    assert len(recorded_manifests(storage)) == len(storage.names("trials")) == 2
    _assert_the_table_says_so(mixgrid, storage, name)


def _assert_the_table_says_so(mixgrid: Mixgrid, storage: Storage, name: str) -> None:
    """As seen from the edited code: both cells are stale because of the code, and come from the snapshot."""
    table = mixgrid("table")
    assert "(s)" in table.stdout, table.stdout
    assert "losses.py" in table.stdout, "the edited file is named"
    assert "2 stale" in mixgrid("status").stdout
    explained = mixgrid("explain", "Supervised@1/3#1")
    assert "stale" in explained.stdout
    record = submission_called(storage, name)
    assert record is not None
    assert f"snapshot {record.snapshot[:12]} of {name}" in explained.stdout, explained.stdout
    print(table.stdout, explained.stdout, sep="\n")


def test_a_cancelled_job_leaves_checkpoints_and_its_next_attempt_goes_on(
    mixgrid: Mixgrid, sent_file: Path, storage: Storage
) -> None:
    text = sent_file.read_text().replace("num_steps=12", "num_steps=4000").replace("every=6", "every=4000")
    sent_file.write_text(text)
    first = mixgrid("submit", *TO_RAY, "--checkpoint-every", "50")
    assert first.returncode == 0, first.stdout + first.stderr
    await_checkpoints(storage)
    stopped = mixgrid("cancel")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    again = mixgrid("cancel")
    assert (again.returncode, again.stdout.strip()) == (0, "nobody trains cells of this table")
    told = mixgrid("logs", "--job")
    assert told.returncode == 0
    assert "cells are not done" in told.stdout
    second = mixgrid("submit", *TO_RAY, "--checkpoint-every", "50", "--follow")
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"{first.stdout.strip()[:-1]}2 ended (SUCCEEDED" in second.stderr
    for trial_id in storage.names("trials"):
        steps = [manifest.resumed_from_step for manifest in recorded_manifests(storage, trial_id)]
        assert [step > 0 for step in steps] == [False, True]


def test_a_job_whose_cells_fail_ends_with_the_exit_code_of_run(mixgrid: Mixgrid) -> None:
    words = ("--set", "optimizer.learning_rate=1e30", "--seeds", "0")
    told = mixgrid("submit", *words, *TO_RAY, "--follow")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "non_finite_loss" in told.stdout


def test_a_cluster_that_is_not_ready_is_told_and_nothing_is_queued(
    cluster: Cluster, mixgrid: Mixgrid, storage: Storage
) -> None:
    before = jobs_on(cluster)
    unreachable = mixgrid("submit", *TO_RAY, "--tracking-uri", "http://127.0.0.1:9")
    assert unreachable.returncode == 2
    not_ready = "the cluster is not ready for this table:\n- MLflow at http://127.0.0.1:9 cannot be reached"
    assert not_ready in unreachable.stderr
    no_such_python = mixgrid("submit", *TO_RAY, "--python", "/nowhere/python")
    assert no_such_python.returncode == 2
    assert "/nowhere/python" in no_such_python.stderr
    assert storage.names("submissions") == []
    assert jobs_on(cluster) == before


def jobs_on(cluster: Cluster) -> list[str]:
    """The names of the jobs that the job server knows, but for those that check a cluster."""
    told = subprocess.run(["ray", "job", "list"], env=cluster.environment, capture_output=True, text=True, check=True)
    return sorted(re.findall(r"submission_id='(sent-[^']+)'", told.stdout))


@pytest.mark.parametrize(
    ("token", "reason"), [({"RAY_AUTH_TOKEN": "0" * 64}, "refused the token"), ({}, "asks for a token")]
)
def test_a_wrong_and_a_missing_token_are_told_apart(
    token: dict[str, str], reason: str, cluster: Cluster, code: Path, sent_file: Path, places: dict[str, str]
) -> None:
    nobody = {name: value for name, value in cluster.environment.items() if not name.startswith("RAY_AUTH_")}
    environment = {**nobody, "HOME": str(sent_file.parent), "RAY_AUTH_MODE": "token" if token else "disabled", **token}
    told = mixgrid_on(environment, sent_file, places, code)("submit", *TO_RAY)
    assert told.returncode == 2
    assert reason in told.stderr, told.stderr
    assert Storage(str(sent_file.parent / "runs")).names("submissions") == []


def test_a_node_with_another_torch_is_refused_before_anything_is_queued(
    sent_file: Path, places: dict[str, str], tmp_path: Path
) -> None:
    info = tmp_path / "other" / "torch-1.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0.0\n")
    with running_cluster() as cluster:
        cluster.add_node(num_cpus=1, num_gpus=1, environment={"PYTHONPATH": str(info.parent)})
        mixgrid = mixgrid_on(cluster.environment, sent_file, places, ROOT)
        told = mixgrid("submit", *TO_RAY)
        on_auto = mixgrid("submit", *TO_RAY, device="auto")
    assert told.returncode == on_auto.returncode == 2
    assert "- the nodes have different releases of torch: 1.0.0 on" in told.stderr
    assert "finds no CUDA device" not in told.stderr
    assert "advertises 1 GPU(s), but torch finds no CUDA device there" in on_auto.stderr
    assert Storage(str(sent_file.parent / "runs")).names("submissions") == []


def await_checkpoints(storage: Storage) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        trials = storage.names("trials")
        if len(trials) == 2 and all(find_commits(storage, trial_id) for trial_id in trials):
            return
        time.sleep(0.5)
    raise AssertionError("no checkpoint within three minutes")
