"""What is sent to a job server, what the check of a cluster makes of the nodes' answers, and a real job server."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.submit import ray_jobs
from orchestrator.submit.ray_jobs import RayOptions, job_address, notes_of, problems_of, request_of
from orchestrator.submit.request import Nodes, SubmitError
from orchestrator.submit.snapshot import ROOMS
from tests.orchestrator.submit.conftest import job
from tests.ray_cluster import running_head, why_absent
from trainer.code import code_digest
from trainer.reading import find_commits, read_result
from trainer.records import (
    Manifest,
    attempt_path,
    trial_path,
)
from trainer.storage import Storage

ROOT = Path(__file__).parents[3]
HERE = ray_jobs.versions()
NONCE = "small-1 17"


def node(name: str, **changed: Any) -> dict[str, Any]:
    fields = {"versions": HERE, "has_data": True, "read": NONCE, "error": "", "cpus": 2.0, "gpus": 1.0}
    return {"id": name, "address": f"10.0.0.{name}", **fields, **changed}


def problems(*nodes: dict[str, Any], back: dict[str, str] | None = None, tracker: str = "") -> list[str]:
    answers = {each["id"]: NONCE for each in nodes} if back is None else back
    return problems_of({"nodes": list(nodes), "tracker": tracker}, NONCE, answers, job())


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def test_the_request_is_what_it_was(golden: Callable[[str, str], None]) -> None:
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/orchestrator/submit/test_ray_jobs.py"""
    golden("ray-job.json", json.dumps(request_of(job(), Nodes(), RayOptions(env=("KEY",))), indent=1) + "\n")


def test_values_of_variables_are_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "secret")
    assert "secret" not in json.dumps(request_of(job(), Nodes(), RayOptions(env=("KEY",))))
    assert RayOptions(env=("KEY",)).variables() == {"KEY": "secret"}
    with pytest.raises(SubmitError, match="--env OTHER: there is no such variable here"):
        RayOptions(env=("KEY", "OTHER")).variables()


def test_the_address_is_as_given_or_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://a:1")
    assert job_address(None) == job_address("http://a:1") == "http://a:1"
    with pytest.raises(SubmitError, match="RAY_ADDRESS says http://a:1: unset it"):
        job_address("http://b:1")


def test_a_cluster_of_equal_nodes_that_share_the_storage_is_ready() -> None:
    assert problems(node("1"), node("2")) == []


@pytest.mark.parametrize("library", ["python", "ray", "torch"])
def test_nodes_of_different_releases_are_named(library: str) -> None:
    (text,) = problems(node("1"), node("2", versions={**HERE, library: "0.1"}))
    assert text.startswith(f"the nodes have different releases of {library}: 0.1 on 10.0.0.2, {HERE[library]} on")


def test_a_node_without_a_library_is_named() -> None:
    (text,) = problems(node("1"), node("2", versions={**HERE, "torch": ""}))
    assert text.startswith("node 10.0.0.2 has no torch")


@pytest.mark.parametrize(
    ("changed", "back", "reason"),
    [
        ({"read": "", "error": "FileNotFoundError: x"}, None, "FileNotFoundError: x; give a folder"),
        ({"read": "other"}, None, "it sees other files there"),
        ({}, {"1": NONCE}, "it sees other files there"),
        ({}, {"1": NONCE, "2": "stale"}, "it sees other files there"),
    ],
)
def test_a_node_that_does_not_share_the_storage_both_ways_is_named(
    changed: dict[str, str], back: dict[str, str] | None, reason: str
) -> None:
    (text,) = problems(node("1"), node("2", **changed), back=back)
    assert text.startswith("node 10.0.0.2 cannot share the storage /shared/runs: " + reason)


def test_what_the_head_says_of_mlflow_is_in_the_way_too() -> None:
    assert problems(node("1"), tracker="MLflow at http://m refuses") == ["MLflow at http://m refuses"]


def test_a_cluster_that_differs_from_here_or_lacks_the_data_is_remarked() -> None:
    nodes = [node("1", versions={**HERE, "torch": "2.0"}), node("2", has_data=False)]
    first, *notes = notes_of({"nodes": nodes}, "/data")
    assert first.startswith("2 nodes with 4 CPUs and 2 GPUs, python")
    assert notes == [
        f"note: here it is torch {HERE['torch']}",
        "note: no folder /data on 10.0.0.2: drawn scenes appear there by themselves",
    ]


def test_nobody_at_the_address_is_said() -> None:
    with pytest.raises(SubmitError, match="no job server answers at --address http://127.0.0.1:9"):
        ray_jobs._client("http://127.0.0.1:9")


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    with running_head() as environment:
        yield environment


def command(environment: dict[str, str], folder: Path, places: dict[str, str], name: str, *words: str):
    more = ["--data", places["data"], "--cache", places["cache"], "--device", "cpu"] if name == "submit" else []
    program = [sys.executable, "-m", "orchestrator.cli", name, "sent.py", *words, *more, "--storage", "runs"]
    return subprocess.run(
        program, cwd=folder, capture_output=True, text=True, check=False, timeout=280,
        env={**environment, "PYTHONPATH": str(folder / "code"), "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The four rooms, to be edited."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / "code" / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "code"


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.skipif(bool(why_absent()), reason=why_absent())
def test_twice_is_one_job_and_it_runs_the_code_as_it_was(
    head: dict[str, str], code: Path, sent_file: Path, places: dict[str, str]
) -> None:
    words = (head, sent_file.parent, places, "submit", "--to", "ray")
    first = command(*words, "--max-concurrent", "1")
    assert first.returncode == 0, first.stdout + first.stderr
    name = first.stdout.strip()
    with (code / "trainer" / "losses.py").open("a") as losses:
        losses.write("# another number, perhaps\n")
    second = command(*words, "--max-concurrent", "1")
    assert (second.returncode, second.stdout.strip()) == (0, name), second.stderr
    assert "nothing was sent" in second.stderr
    followed = command(*words, "--max-concurrent", "1", "--follow")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert f"{name} ended (SUCCEEDED" in followed.stderr
    client = subprocess.run(["ray", "job", "list"], env=head, capture_output=True, text=True, check=True)
    assert client.stdout.count(f"submission_id='{name}'") == 1, client.stdout
    storage = Storage(str(sent_file.parent / "runs"))
    for trial_id in storage.names("trials"):
        result = read_result(storage, trial_id)
        assert result is not None
        manifest = Manifest.find(storage, attempt_path(trial_id, result.attempt, "manifest.json"))
        assert manifest is not None
        assert manifest.digests.code == code_digest()  # of these rooms, which nobody edited
    assert len(storage.names("trials")) == 2
    assert not storage.exists("last_run.json") or "/code" not in storage.read("last_run.json").decode()


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.skipif(bool(why_absent()), reason=why_absent())
def test_a_cancelled_job_leaves_checkpoints_and_its_next_attempt_goes_on(
    head: dict[str, str], code: Path, sent_file: Path, places: dict[str, str]
) -> None:
    sent_file.write_text(
        sent_file.read_text().replace("num_steps=12", "num_steps=4000").replace("every=6", "every=4000")
    )
    words = (head, sent_file.parent, places)
    first = command(*words, "submit", "--to", "ray", "--checkpoint-every", "50")
    assert first.returncode == 0, first.stdout + first.stderr
    storage = Storage(str(sent_file.parent / "runs"))
    await_steps(storage)
    stopped = command(*words, "cancel")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    second = command(*words, "submit", "--to", "ray", "--checkpoint-every", "50", "--follow")
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"{first.stdout.strip()[:-1]}2 ended (SUCCEEDED" in second.stderr
    for trial_id in storage.names("trials"):
        attempts = storage.names(trial_path(trial_id, "attempts"))
        manifests = [Manifest.find(storage, attempt_path(trial_id, attempt, "manifest.json")) for attempt in attempts]
        assert [manifest.resumed_from_step > 0 for manifest in manifests] == [False, True]


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.skipif(bool(why_absent()), reason=why_absent())
def test_a_cluster_that_is_not_ready_is_told_and_nothing_is_queued(
    head: dict[str, str], code: Path, sent_file: Path, places: dict[str, str], tmp_path: Path
) -> None:
    words = (head, sent_file.parent, places, "submit", "--to", "ray")
    unreachable = command(*words, "--tracking-uri", "http://127.0.0.1:9")
    assert unreachable.returncode == 2
    assert (
        "the cluster is not ready for this table:\n- MLflow at http://127.0.0.1:9 cannot be reached"
        in unreachable.stderr
    )
    assert Storage(str(sent_file.parent / "runs")).names("submissions") == []
    no_token = command({**head, "RAY_AUTH_TOKEN": "0" * 64}, *words[1:])
    assert no_token.returncode == 2
    assert "asks for a token" in no_token.stderr


def await_steps(storage: Storage) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        trials = storage.names("trials")
        if len(trials) == 2 and all(find_commits(storage, trial_id) for trial_id in trials):
            return
        time.sleep(0.5)
    raise AssertionError("no checkpoint within two minutes")
