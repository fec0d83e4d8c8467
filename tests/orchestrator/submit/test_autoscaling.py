"""Ray's own autoscaler on this machine, from no node that trains to two and back; its nodes are raylets."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.grid import wait_until
from tests.orchestrator.submit.conftest import ROOT, mixgrid_on, recorded_manifests
from tests.orchestrator.submit.test_several_nodes import assert_same_tables, assert_same_weights
from tests.ray_cluster import Cluster, Growth, running_cluster, why_absent
from trainer.storage import Storage

pytestmark = [
    pytest.mark.ray,
    pytest.mark.chaos,
    pytest.mark.skipif(bool(why_absent()), reason=why_absent()),
]


def num_nodes(cluster: Cluster) -> int:
    """Raylets that live, the head's included: those that the autoscaler starts are below the head."""
    return len(cluster.head.processes("/raylet/raylet "))


@contextmanager
def running(table: Path, words: tuple[str, ...], cluster: Cluster) -> Iterator["subprocess.Popen[bytes]"]:
    """The command in a session of its own, killed at the end with all that is in it."""
    environment = {**cluster.environment, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "orchestrator.cli", "run", table.name, "--storage", "runs", *words]
    with (
        (table.parent / "killed.log").open("wb") as log,
        subprocess.Popen(
            program, cwd=table.parent, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_nodes_come_for_a_grid_and_go_after_it_and_after_its_driver_was_killed(
    sent_file: Path, places: dict[str, str]
) -> None:
    sent_file.write_text(sent_file.read_text().replace("seeds=(0, 1)", "seeds=(0, 1, 2)"))
    storage = Storage(str(sent_file.parent / "runs"))
    with running_cluster(num_cpus=1, growth=Growth(most=2, idle_seconds=10)) as cluster:
        mixgrid = mixgrid_on(cluster.environment, sent_file, places, ROOT)
        to_cluster = ("--no-mlflow", "--address", cluster.address, "--gpus-per-worker", "1")
        refused = mixgrid("run", *to_cluster)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "a trial needs 1 GPU (1 workers), but the cluster has 0" in refused.stderr
        assert "--wait-for-nodes asks for them" in refused.stderr
        places_words = ("--data", places["data"], "--cache", places["cache"], "--device", "cpu")
        with running(sent_file, (*to_cluster, "--wait-for-nodes", *places_words), cluster):
            wait_until(lambda: num_nodes(cluster) == 3, 240, "both nodes come")
        wait_until(lambda: num_nodes(cluster) == 1, 240, "what a killed driver asked for is taken back")
        ran = mixgrid("run", *to_cluster, "--wait-for-nodes")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "waiting for nodes with room for 1 x (1 CPU and 1 GPU)" in ran.stdout
        wait_until(lambda: num_nodes(cluster) == 1, 240, "the nodes go")
    assert len({manifest.trial_id for manifest in recorded_manifests(storage)}) == 3
    alone = mixgrid_on(os.environ, sent_file, places, ROOT)("run", "--no-mlflow", "--storage", "alone")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert_same_tables(sent_file.parent / "runs", sent_file.parent / "alone")
    assert_same_weights(sent_file, storage, Storage(str(sent_file.parent / "alone")))
