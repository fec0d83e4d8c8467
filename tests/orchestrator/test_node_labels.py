"""Labelled nodes of a real Ray: trials run where the label is, and a label that nobody carries is said."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.orchestrator.conftest import small_table
from trainer.reading import read_result
from trainer.storage import Storage

ROOT = Path(__file__).parents[2]
TABLE = "from tests.orchestrator.conftest import small_table\nSMALL = small_table()\n"
pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without a label, and a node with one, a CPU each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    place = tempfile.mkdtemp(prefix="lb", dir="/tmp")  # sockets have short names
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "temp_dir": place, "include_dashboard": False})
    made.add_node(num_cpus=1, labels={"gpu": "h100"})
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def started(cluster: Cluster, folder: Path, places: dict[str, str], labels: str) -> subprocess.Popen[str]:
    (folder / "small.py").write_text(TABLE)
    words = ["run", "small.py", "--storage", "runs", "--data", places["data"], "--cache", places["cache"]]
    words += ["--no-mlflow", "--address", cluster.address, "--node-labels", labels]
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def least_free(running: subprocess.Popen[str]) -> dict[str, float]:
    """The fewest CPUs that were free on each node while a program ran, by the node's label."""
    label_of = {node["NodeID"]: node["Labels"].get("gpu", "") for node in ray.nodes()}
    least = dict.fromkeys(label_of.values(), 9.0)
    while running.poll() is None:
        for node, free in ray._private.state.available_resources_per_node().items():
            least[label_of[node]] = min(least[label_of[node]], free.get("CPU", 0.0))
        time.sleep(0.2)
    return least


def test_trials_run_where_the_label_is(cluster: Cluster, tmp_path: Path, places: dict[str, str]) -> None:
    run = started(cluster, tmp_path, places, "gpu=h100")
    least = least_free(run)
    assert run.wait() == 0, run.stdout.read() if run.stdout else ""
    storage = Storage(str(tmp_path / "runs"))
    assert all(read_result(storage, cell.trial_id) for cell in small_table().cells())
    assert least["h100"] < 0.1
    assert least[""] > 1.9  # drivers of trials take a sliver

    (other := tmp_path / "other").mkdir()
    refused = started(cluster, other, places, "gpu=b200")
    told, _ = refused.communicate(timeout=120)
    assert refused.returncode == 2, told
    assert "no node carries --node-labels gpu=b200; labels of the 2 nodes there are: gpu=h100 (1)" in told
