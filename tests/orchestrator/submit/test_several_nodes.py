"""A job on a real cluster of several raylets of this machine, whose GPUs are only counted: nodes go and come."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.table import find_table
from tests.chaos.grid import TRIAL_PROCESS, WORKER, wait_until
from tests.orchestrator.submit.conftest import ROOT, mixgrid_on, recorded_manifests
from tests.ray_cluster import Cluster, Node, running_cluster, why_absent
from trainer.reading import find_commits, read_endings, read_progress, read_result
from trainer.records import Manifest, trial_path
from trainer.storage import Storage

pytestmark = [
    pytest.mark.ray,
    pytest.mark.chaos,
    pytest.mark.skipif(bool(why_absent()), reason=why_absent()),
]
NUM_STEPS = 2000
CADENCE = ("--checkpoint-every", "50", "--log-every", "40", "--progress-seconds", "0")
WORDS = ("--to", "ray", "--gpus-per-worker", "1", *CADENCE)


def lengthen(file: Path, *, num_seeds: int) -> None:
    """Give the table on disk so many seeds, and trials long enough to be hit."""
    text = file.read_text().replace("num_steps=12", f"num_steps={NUM_STEPS}")
    text = text.replace("seeds=(0, 1)", f"seeds={tuple(range(num_seeds))}")
    file.write_text(text.replace("every=6", f"every={NUM_STEPS // 2}"))


@contextmanager
def watched(cluster: Cluster) -> Iterator[None]:
    """Note every process of every node meanwhile, so that attempts can be told by their node."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for node in (cluster.head, *cluster.nodes):
                node.processes()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def trials_on(node: Node, manifests: Sequence[Manifest]) -> set[str]:
    """The trials of which an attempt ran on a node."""
    return {manifest.trial_id for manifest in manifests if manifest.pid in node.pids}


def began_at(trial_id: str, manifests: Sequence[Manifest]) -> list[int]:
    """The steps at which the attempts at a trial began."""
    return [manifest.resumed_from_step for manifest in manifests if manifest.trial_id == trial_id]


def in_midst_of_training(storage: Storage, node: Node) -> str | None:
    """A trial that trains on a node, beyond its first checkpoint and before the middle of its way."""
    node.processes()
    for manifest in recorded_manifests(storage):
        progress = read_progress(storage, manifest.trial_id, manifest.attempt)
        is_here = manifest.pid in node.pids and bool(find_commits(storage, manifest.trial_id))
        if is_here and progress is not None and progress.step < NUM_STEPS // 2:
            return manifest.trial_id
    return None


def await_training(storage: Storage, node: Node) -> str:
    """The first such trial."""
    found: list[str] = []

    def look() -> bool:
        found.extend(filter(None, [in_midst_of_training(storage, node)]))
        return bool(found)

    wait_until(look, 240, "a trial trains on the node")
    return found[0]


def said_of(cluster: Cluster, manifests: Sequence[Manifest], since: float) -> str:
    """A line for each attempt: its trial, where it began, on which node, and how long after the node was lost."""
    lines = []
    for each in manifests:
        nodes = [number for number, node in enumerate(cluster.nodes) if each.pid in node.pids]
        lines.append(f"{each.trial_id} from step {each.resumed_from_step} on {nodes} at {each.started - since:+.0f} s")
    return "\n".join(lines)


def test_a_grid_outlives_a_node_uses_the_one_that_comes_and_makes_the_table_of_one_node(
    sent_file: Path, places: dict[str, str]
) -> None:
    lengthen(sent_file, num_seeds=4)
    storage = Storage(str(sent_file.parent / "runs"))
    with running_cluster(num_cpus=1) as cluster, watched(cluster):
        first, second = (cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2))
        mixgrid = mixgrid_on(cluster.environment, sent_file, places, ROOT)
        sent = mixgrid("submit", *WORDS)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert "3 nodes with 3 CPUs and 2 GPUs" in sent.stderr
        hit = await_training(storage, second)
        lost_at = time.time()
        second.kill()
        third = cluster.add_node(num_cpus=1, num_gpus=1)
        followed = mixgrid("submit", *WORDS, "--follow")
        assert followed.returncode == 0, followed.stdout + followed.stderr
        manifests = recorded_manifests(storage)
        print(said_of(cluster, manifests, lost_at))
    assert hit in trials_on(second, manifests)
    assert [step > 0 for step in began_at(hit, manifests)] == [False, True], "it went on from its checkpoint"
    for cell in find_table(str(sent_file), {}).cells():  # a trial whose driver was on the lost node went on too
        steps = began_at(cell.trial_id, manifests)
        assert steps == sorted(steps), "nothing that was safe was trained again"
    assert trials_on(first, manifests)
    assert trials_on(third, manifests), "the node that came was used"
    alone = mixgrid_on(os.environ, sent_file, places, ROOT)("run", "--no-mlflow", "--storage", "alone", *CADENCE)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert_same_tables(sent_file.parent / "runs", sent_file.parent / "alone")
    assert_same_weights(sent_file, storage, Storage(str(sent_file.parent / "alone")))


def test_a_trial_on_a_node_that_is_drained_checkpoints_and_goes_on_elsewhere(
    sent_file: Path, places: dict[str, str]
) -> None:
    lengthen(sent_file, num_seeds=2)
    storage = Storage(str(sent_file.parent / "runs"))
    with running_cluster(num_cpus=1) as cluster, watched(cluster):
        first, second = (cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2))
        mixgrid = mixgrid_on(cluster.environment, sent_file, places, ROOT)
        node_id = cluster.id_of(second)
        sent = mixgrid("submit", *WORDS)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        moved = await_training(storage, second)
        assert cluster.head.processes(TRIAL_PROCESS)
        assert not first.processes(TRIAL_PROCESS) + second.processes(TRIAL_PROCESS), (
            "trials are driven from where the run is"
        )
        drained_at = time.time()
        cluster.drain(node_id, seconds=300)
        third = cluster.add_node(num_cpus=1, num_gpus=1)
        left, *_ = storage.names(trial_path(moved, "attempts"))
        wait_until(lambda: moved in trials_on(third, recorded_manifests(storage)), 240, "it goes on elsewhere")
        assert not second.processes(WORKER), "nothing trains on the node that is drained"
        second.kill()
        followed = mixgrid("submit", *WORDS, "--follow")
        assert followed.returncode == 0, followed.stdout + followed.stderr
        manifests = recorded_manifests(storage)
        print(said_of(cluster, manifests, drained_at))
    (ending,) = read_endings(storage, moved, left)
    assert ending.kind == "stopped", "it left in time"
    assert began_at(moved, manifests) == [0, ending.step], "no step was lost"
    assert trials_on(first, manifests)


def assert_same_tables(one: Path, other: Path) -> None:
    for name in ("table.csv", "table-long.csv", "table.tex", "table.md"):
        mine, theirs = ((root / "tables" / "sent" / name).read_bytes() for root in (one, other))
        assert mine == theirs, name
        assert mine


def assert_same_weights(table: Path, one: Storage, other: Storage) -> None:
    for cell in find_table(str(table), {}).cells():
        mine, theirs = read_result(one, cell.trial_id), read_result(other, cell.trial_id)
        assert mine is not None
        assert theirs is not None
        assert mine.weights_sha256 == theirs.weights_sha256
