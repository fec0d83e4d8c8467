"""The real way through Ray: Tune, TorchTrainer, DDP, storage. Each run costs half a minute, so there are few."""

import os
import pickle
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray import tune
from ray.tune.search import Searcher

from orchestrator import driver
from orchestrator.admission import TrialQueue
from orchestrator.agenda import Agenda
from orchestrator.order import Waiting
from orchestrator.progress import GridProgress, TrialProgress
from orchestrator.resources import Placement, PlacementError
from orchestrator.trainable import Order
from tests.orchestrator.conftest import small_table
from trainer.checkpoint import from_bytes
from trainer.host import NoHost
from trainer.reading import read_result
from trainer.records import (
    Manifest,
    attempt_path,
    trial_path,
)
from trainer.run import run_trial
from trainer.spec import RunOptions
from trainer.storage import Storage

ROOT = Path(__file__).parents[2]
HUNGRY = """
from dataclasses import replace
from experiments.table import Row
from tests.orchestrator.conftest import small_table
from trainer.spec import Mix
SMALL = small_table()
HUNGRY = replace(SMALL, rows=(*SMALL.rows, Row("Hungry", Mix(), deviations=(("unlabeled_batch", 64),))))
"""
LONG = """
from tests.orchestrator.conftest import small_table
LONG = small_table(num_steps=600)
"""


def command(table: str, storage: str, places: dict[str, str], *more: str) -> list[str]:
    program = "from orchestrator.cli.app import main; main()"
    words = ["run", table, "--storage", storage, "--data", places["data"], "--cache", places["cache"], "--no-mlflow"]
    return [sys.executable, "-c", program, *words, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.mark.ray
def test_two_cells_with_two_workers_give_the_numbers_of_one_process_and_a_bad_one_fails_alone(
    trained: str, places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    storage = Storage(str(tmp_path / "runs"))
    ran = subprocess.run(
        command(f"{tmp_path / 'hungry.py'}:HUNGRY", "runs", places, "--workers", "2"),  # a place relative to the user
        capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False, timeout=400,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "failed Hungry@1/3#0: bad_spec_or_data: 8 unlabeled images are fewer than the batch of 64" in ran.stdout
    for cell in small_table().cells():
        result = read_result(storage, cell.trial_id)
        assert result is not None
        manifest = Manifest.find(storage, attempt_path(cell.trial_id, result.attempt, "manifest.json"))
        assert manifest is not None
        assert manifest.world_size == 2
        here = from_bytes(storage.read(trial_path(cell.trial_id, "weights.pt")))["student"]
        there = from_bytes(Storage(trained).read(trial_path(cell.trial_id, "weights.pt")))["student"]
        for name, tensor in there.items():
            torch.testing.assert_close(here[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.ray
def test_a_cell_outlives_the_kill_of_its_worker_its_trial_process_and_its_driver(
    places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "long.py").write_text(LONG)
    words = ["drill", str(tmp_path / "long.py"), "--storage", "runs", "--checkpoint-every", "40"]
    words += ["--data", places["data"], "--cache", places["cache"]]
    program = "from orchestrator.cli.app import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False, timeout=1200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = (tmp_path / "runs/drill/report.md").read_text()
    assert report.count("| equal |") == 6
    storage, cell = Storage(str(tmp_path / "runs/drill/under-fire")), small_table(num_steps=600).cells()[-1]
    attempts = storage.names(trial_path(cell.trial_id, "attempts"))
    manifests = [Manifest.find(storage, attempt_path(cell.trial_id, a, "manifest.json")) for a in attempts]
    assert [0 < manifest.resumed_from_step < 600 for manifest in manifests][:4] == [False, True, True, True]
    undisturbed = RunOptions(storage=str(tmp_path / "undisturbed"), **places)
    run_trial(cell.spec, undisturbed, NoHost())  # the same digits without Ray
    killed, whole = read_result(storage, cell.trial_id), read_result(Storage(undisturbed.storage), cell.trial_id)
    assert killed.weights_sha256 == whole.weights_sha256


@pytest.mark.ray
def test_the_process_that_drove_a_trial_drives_the_next_and_a_killed_one_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"

    def name_process(config: dict[str, Any]) -> None:
        if config["order"]["trial_id"] == order[1] and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        tune.report({"outcome": "done", "message": str(os.getpid())})

    cells = replace(small_table(), seeds=(0, 1)).cells()
    order = [cell.trial_id for cell in cells]
    processes: dict[str, str] = {}

    def look(progress: GridProgress) -> None:
        processes.update({name: trial.message for name, trial in progress.trials.items()})

    monkeypatch.setattr(driver, "train_cell", name_process)
    options = RunOptions(storage=str(tmp_path / "runs"), device="cpu")
    agenda = Agenda(tuple(Waiting(name, 1, 9.0 - place) for place, name in enumerate(order)), max_concurrent=1)
    outcome = driver.run_cells(cells, options, Placement(), table_name="small", agenda=agenda, while_running=look)
    assert outcome.problems == {}
    first, second, third, fourth = (processes[name] for name in order)
    assert first != second == third == fourth


# --- what is withheld from Tune, without Ray ----------------------------------------------------------------------


class Cluster:
    """Nodes and what is free of them, under the names that the driver asks Ray by."""

    def __init__(self, *cpus: float) -> None:
        self.cpus, self.used, self.num_looks = list(cpus), 0.0, 0
        self.labels: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self.drained: frozenset[str] = frozenset()

    def nodes(self) -> list[dict[str, object]]:
        self.num_looks += 1
        return [
            {"NodeID": str(number), "Alive": cpus > 0, "Resources": {"CPU": abs(cpus)}, "Labels": self.labels[number]}
            for number, cpus in enumerate(self.cpus)
        ]

    @property
    def _private(self) -> SimpleNamespace:
        return SimpleNamespace(state=SimpleNamespace(available_resources_per_node=self.free))

    def free(self) -> Mapping[str, Mapping[str, float]]:
        """What is used is used on the first nodes."""
        left, free = self.used, {}
        for number, cpus in enumerate(self.cpus):
            if cpus > 0:
                free[str(number)] = {"CPU": max(cpus - left, 0.0)}
                left = max(left - cpus, 0.0)
        return free


class Gate:
    """A turnstile on a made-up cluster and clock; its trials are a, b, c …, the longest first."""

    def __init__(
        self, patch: pytest.MonkeyPatch, cluster: Cluster, num_trials: int, labels: str = "", **limits: float
    ) -> None:
        self.now, self.cluster = 0.0, cluster
        patch.setattr(driver, "ray", cluster)
        patch.setattr(driver, "draining_nodes", lambda: cluster.drained)
        patch.setattr(driver.time, "monotonic", lambda: self.now)
        names = "abcdefgh"[:num_trials]
        self.progress = GridProgress({name: TrialProgress(name) for name in names})
        self.stopper = SimpleNamespace(was_asked=False)
        waiting = [Waiting(name, 1, 99.0 - number) for number, name in enumerate(names)]
        placement = Placement(gpus_per_worker=0.0, node_labels=labels)
        orders = {name: Order(name, "", "", placement, "d1", 0.0, "") for name in names}
        queue = TrialQueue(waiting, budget=limits.get("budget"))
        most = limits.get("most", float("inf"))
        self.needed: list[int] = []
        asking = SimpleNamespace(need=self.needed.append)
        self.turnstile = driver._Turnstile(queue, orders, self.progress, self.stopper, most, asking)  # type: ignore[arg-type]

    def let_in(self, *, after: float = 2.0) -> str | None:
        """Which trial Tune gets some seconds later."""
        self.now += after
        found = self.turnstile.suggest(f"tune-{self.now}")
        if not isinstance(found, dict):
            return found
        name = str(found["order"]["trial_id"])
        self.progress.trials[name].phase = "starting"
        return name

    def settle(self, name: str) -> None:
        """It trains now, on devices of the cluster."""
        self.progress.trials[name].phase = "training"
        self.cluster.used += 0.991


def test_trials_are_withheld_until_devices_for_them_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(2.0), 3)
    assert [gate.let_in(after=0.0) for _ in range(3)] == ["a", "b", None]
    gate.settle("a")
    gate.settle("b")
    assert gate.let_in() is None
    gate.turnstile.on_trial_complete("tune-0.0", {"outcome": "done"})  # b, which was let in last under that name
    assert gate.let_in() is None  # its devices are not back yet
    gate.cluster.used -= 0.991
    assert gate.let_in() == "c"


def test_a_node_that_comes_is_used_and_one_that_goes_is_not_waited_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(1.0), 5)
    assert gate.let_in() == "a"
    gate.settle("a")
    assert gate.let_in() is None
    gate.cluster.cpus.append(1.0)
    assert gate.let_in() == "b"
    gate.settle("b")
    gate.cluster.cpus[1] = -1.0  # not alive
    gate.cluster.used -= 0.991
    assert gate.let_in() is None


def test_a_dead_node_counts_for_nothing_even_where_its_devices_are_still_called_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(monkeypatch, Cluster(1.0, -1.0), 5)
    gate.cluster.used = -1.0
    assert gate.let_in() == "a"
    gate.settle("a")
    assert gate.let_in() is None


def test_only_nodes_with_the_label_count_and_one_that_comes_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(8.0, 1.0)
    cluster.labels[1] = cluster.labels[2] = {"gpu": "h100"}
    gate = Gate(monkeypatch, cluster, 5, labels="gpu=h100")
    assert [gate.let_in(), gate.let_in()] == ["a", None]
    cluster.cpus.append(1.0)
    assert [gate.let_in(), gate.let_in()] == ["b", None]


def test_nothing_is_let_in_for_a_node_that_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(1.0, 1.0), 5)
    gate.cluster.drained = frozenset({"1"})
    assert [gate.let_in(), gate.let_in()] == ["a", None]
    gate.settle("a")
    assert gate.let_in() is None
    gate.cluster.drained = frozenset()
    assert gate.let_in() == "b"


def test_devices_that_somebody_else_uses_are_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(3.0), 5)
    gate.cluster.used = 2.0
    assert [gate.let_in(), gate.let_in()] == ["a", None]
    gate.settle("a")
    assert gate.let_in() is None
    gate.cluster.used = 0.991
    assert [gate.let_in(), gate.let_in(), gate.let_in()] == ["b", "c", None]


def test_a_trial_that_is_slow_to_start_is_taken_to_have_its_devices_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(2.0), 3)
    assert gate.let_in() == "a"
    gate.cluster.used = 0.991  # it has them, and has not said so
    assert gate.let_in() is None
    assert gate.let_in(after=61.0) == "b"


def test_the_cluster_is_looked_at_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(1.0), 5)
    for _ in range(20):
        gate.let_in(after=0.1)
    assert gate.cluster.num_looks == 2


def test_no_more_trials_at_once_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(9.0), 5, most=2)
    assert [gate.let_in() for _ in range(3)] == ["a", "b", None]


def test_after_the_word_to_stop_nothing_starts_and_the_rest_counts_as_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(1.0), 3)
    assert gate.let_in() == "a"
    gate.stopper.was_asked = True
    assert gate.let_in() == Searcher.FINISHED
    assert [gate.progress.trials[name].phase for name in "abc"] == ["starting", "stopped", "stopped"]


def test_what_does_not_fit_into_the_budget_is_left_out_once_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(9.0), 3, budget=150.0)
    assert [gate.let_in(), gate.let_in()] == ["a", None]
    gate.now = 101.0
    gate.turnstile.on_trial_complete("tune-2.0", {"outcome": "done"})
    assert gate.let_in() == Searcher.FINISHED
    assert gate.progress.count("stopped") == 2


def test_a_cluster_without_nodes_is_asked_for_every_trial_that_could_start(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(), 3)
    assert gate.let_in() is None
    assert gate.needed == [3]
    assert gate.progress.note == "waiting for nodes with room for 1 x (1 CPU)"
    gate.cluster.cpus.append(1.0)
    assert gate.let_in() == "a"
    assert (gate.needed[-1], gate.progress.note) == (3, "")


def test_no_more_nodes_are_asked_for_than_trials_may_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(), 5, most=2)
    gate.let_in()
    assert gate.needed == [2]


def test_what_the_budget_does_not_allow_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(), 3, budget=150.0)  # 99 s, 98 s, 97 s
    gate.let_in()
    assert gate.needed == [1]


def test_what_others_compute_on_is_kept_beside_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(3.0), 4)
    gate.cluster.used = 2.0
    assert gate.let_in() == "a"
    gate.settle("a")
    gate.let_in()
    assert gate.needed == [4 + 2, 4 + 2]


def test_the_demand_falls_with_every_trial_that_ends_also_when_none_is_left_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(monkeypatch, Cluster(9.0), 3)
    assert [gate.let_in() for _ in range(3)] == ["a", "b", "c"]
    for called in ("tune-2.0", "tune-4.0", "tune-6.0"):
        gate.turnstile.on_trial_complete(called, {"outcome": "done"})
    assert gate.needed == [3, 3, 3, 2, 1, 0]


def test_after_the_word_to_stop_only_what_still_runs_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(1.0), 3)
    gate.let_in()
    gate.stopper.was_asked = True
    gate.let_in()
    assert gate.needed == [3, 1]


@pytest.mark.parametrize(("address", "has_hint"), [("head:6379", True), (None, False)])
def test_a_cluster_that_is_too_small_names_the_way_to_wait(
    address: str | None, has_hint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ray", Cluster(1.0))
    monkeypatch.setattr(driver, "draining_nodes", frozenset)
    wanted = Placement(gpus_per_worker=1.0)
    with pytest.raises(PlacementError, match="needs 1 GPU .1 workers., but the cluster has 0") as error:
        driver._settled(wanted, "auto", address, is_waiting=False)
    assert ("--wait-for-nodes" in str(error.value)) == has_hint
    assert driver._settled(wanted, "auto", address, is_waiting=True) == wanted
    assert driver._settled(Placement(), "cuda", address, is_waiting=True) == wanted


def test_tune_may_keep_a_copy_of_the_turnstile(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Cluster(1.0), 3)
    gate.stopper.lock = __import__("threading").Lock()
    pickle.loads(pickle.dumps(gate.turnstile))
