"""Two hosts with their own addresses: a trial with a rank on each, and the cable between them pulled in its midst."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from experiments.table import Table
from orchestrator.mirror import EXPERIMENT
from tests.chaos.grid import Grid, environment, history, wait_until
from tests.object_store import ObjectStore, running_object_store
from tests.orchestrator.conftest import small_table
from tests.two_hosts import Host, two_hosts, why_absent
from tests.worlds import run_ranks, train_all
from trainer.reading import find_commits, read_manifests, read_result, read_segments
from trainer.records import TrainRecord
from trainer.spec import RunOptions
from trainer.storage import Storage

pytestmark = [
    pytest.mark.ray,
    pytest.mark.chaos,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(bool(why_absent()), reason=why_absent()),
]
STEPS, CHECKPOINT_EVERY, LOG_EVERY = 300, 20, 10
SOURCE = f"""
from tests.orchestrator.conftest import small_table
GRID = small_table(num_steps={STEPS}).selected(rows="ComplexMix")
"""
HOSTS = ("head", "member")
RAW = """
import sys, urllib.request
try:
    urllib.request.urlopen(sys.argv[1])
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    """Two hosts, `head` with an S3 server, and a folder of this machine."""

    place: Path
    head: Host
    member: Host
    store: ObjectStore
    environment: dict[str, str]

    @property
    def ray_address(self) -> str:
        return f"{self.head.address}:6379"

    @contextlib.contextmanager
    def mlflow(self, *words: str) -> Iterator[str]:
        """MLflow's own server on the head; gives its address by the head's name."""
        command = [BIN / "mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", *words]
        command += ["--backend-store-uri", f"sqlite:///{self.place}/mlflow.db"]
        command += ["--artifacts-destination", self.place / "artifacts"]
        with self.head.running(command, self.environment, self.place / "mlflow.txt"):
            wait_until(lambda: answers(f"http://{self.head.address}:5000/health"), 120, "MLflow is up")
            yield f"http://{self.head.name}:5000"

    @contextlib.contextmanager
    def ray(self) -> Iterator[None]:
        """Ray on both; the member's node is started again whenever it ends, as a supervisor does."""
        common = ["--num-cpus=1", "--object-store-memory=100000000", "--block", "--disable-usage-stats"]
        start = [BIN / "ray", "start", f"--node-ip-address={self.head.address}", *common]
        head = [*start, "--head", "--port=6379", "--dashboard-host=127.0.0.1", f"--temp-dir={self.place}/ray"]
        again = f"while true; do {BIN}/ray start --address={self.ray_address} --node-ip-address={self.member.address} "
        member = ["sh", "-c", f"{again} {' '.join(common)}; sleep 2; done"]
        with (
            self.head.running(head, self.environment, self.place / "head.txt"),
            self.member.running(member, self.environment, self.place / "member.txt"),
        ):
            wait_until(lambda: "runtime started" in (self.place / "member.txt").read_text(), 120, "Ray on both hosts")
            time.sleep(5.0)
            yield


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
        return True
    return False


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two hosts, each with caches of its own. No image lies on either: what they read is published on S3."""
    place = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))  # sockets have short names
    for key, word in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{key}", word)
    folders = {place / name: (place / "head" / name, place / "member" / name) for name in ("ray", "cache")}
    for folder in [*folders, *(own for both in folders.values() for own in both)]:
        folder.mkdir(parents=True)
    try:
        with (
            two_hosts(HOSTS, folders) as (head, member),
            running_object_store(head.address, head.command) as store,
        ):
            store.make_bucket("papers")
            yield Cluster(place, head, member, store, environment(RAY_AUTH_MODE="disabled"))
    finally:
        shutil.rmtree(place, ignore_errors=True)


class GridOnHead(Grid):
    """A grid whose driver runs on the head of a cluster."""

    cluster: Cluster

    @contextlib.contextmanager
    def running(self) -> Iterator[psutil.Popen]:
        command = [BIN / "mixgrid", "run", *self.words, "--storage", self.storage.url]
        with self.cluster.head.running(command, self.environment, self.cluster.place / "run.txt") as driver:
            yield driver

    def log(self) -> str:
        return (self.cluster.place / "run.txt").read_text()[-3000:]

    def is_safe_beyond(self, trial_id: str, step: int) -> bool:
        """Whether a trial has a checkpoint after a step, or its result."""
        commits = find_commits(self.storage, trial_id)
        return bool(commits and commits[0].step > step) or read_result(self.storage, trial_id) is not None


def publish(cluster: Cluster, table: Path, places: dict[str, str]) -> str:
    """Publish the table's caches on S3, from this machine; gives the place."""
    place = cluster.store.url("papers/data")
    words = ["data", "publish", table, "--to", place, "--data", places["data"], "--cache", places["cache"]]
    subprocess.run([BIN / "mixgrid", *words], env=cluster.environment, check=True)
    return place


def make_grid(cluster: Cluster, places: dict[str, str], *words: str) -> GridOnHead:
    source = cluster.place / "grid.py"
    source.write_text(SOURCE)
    table: Table = small_table(num_steps=STEPS).selected(rows="ComplexMix")
    cadence = ["--checkpoint-every", str(CHECKPOINT_EVERY), "--log-every", str(LOG_EVERY), "--progress-seconds", "0"]
    command = [str(source), "--address", cluster.ray_address, "--workers", "2", "--no-previews", *cadence, *words]
    command += ["--data", publish(cluster, source, places), "--cache", str(cluster.place / "cache")]
    grid = GridOnHead(table, command, Storage(cluster.store.url("papers/runs")), cluster.environment)
    grid.cluster = cluster
    return grid


@pytest.mark.parametrize("seconds", [20.0, 90.0])
def test_a_trial_over_two_hosts_outlives_a_cable_that_is_pulled_for_a_while(
    seconds: float, cluster: Cluster, places: dict[str, str], tmp_path: Path
) -> None:
    """Ray takes a node for dead after half a minute of silence: one cut is shorter, one longer."""
    names = f"head,head:5000,{cluster.head.address}:5000"
    with cluster.mlflow("--allowed-hosts", names) as uri, cluster.ray():
        grid = make_grid(cluster, places, "--tracking-uri", uri)
        with grid.running() as driver:
            trial_id = grid.wait_for_unsafe_steps(driver)
            with cluster.member.unplugged():
                reached = grid.progress()[trial_id][1].step
                time.sleep(seconds)
            started = time.monotonic()
            wait_until(lambda: grid.is_safe_beyond(trial_id, reached), 400, f"a new checkpoint: {grid.log()}")
            print(f"{seconds:g} s without cable at step {reached}; goes on {time.monotonic() - started:.1f} s later")
            assert driver.wait(timeout=400) == 0, grid.log()
        print(f"attempts began at steps {grid.resumed_steps()[trial_id]}")
        assert "refuses" not in grid.log()
        assert_every_point_is_there_once(grid, MlflowClient(tracking_uri=f"http://{cluster.head.address}:5000"))
    grid.assert_nothing_began_anew()
    assert_a_rank_on_each_host(grid, trial_id)
    assert_each_host_copied_its_data_once(cluster)
    assert history(grid.storage, trial_id) == history(undisturbed(grid, places, tmp_path), trial_id)


def assert_a_rank_on_each_host(grid: GridOnHead, trial_id: str) -> None:
    hosts = {f"{host.name} ({host.address})" for host in (grid.cluster.head, grid.cluster.member)}
    manifests, _ = read_manifests(grid.storage, trial_id)
    for manifest in manifests:
        print(f"attempt {manifest.attempt}: ranks on {', '.join(manifest.rank_hosts)}")
        assert set(manifest.rank_hosts) == hosts


def assert_each_host_copied_its_data_once(cluster: Cluster) -> None:
    caches = [sorted(path.name for path in (cluster.place / name / "cache").glob("*.arrow")) for name in HOSTS]
    reads = Counter(seen.split("?")[0] for seen in cluster.store.seen() if ".arrow" in seen and seen.startswith("GET"))
    print(f"caches on each host: {caches[0]}; read from S3: {dict(reads)}")
    assert caches[0] == caches[1]
    assert len(caches[0]) == len(reads) == 2
    assert set(reads.values()) == {2}


def undisturbed(grid: Grid, places: dict[str, str], folder: Path) -> Storage:
    """The same trial on two ranks of this machine."""
    options = RunOptions(
        storage=str(folder / "undisturbed"), **places, checkpoint_every=CHECKPOINT_EVERY, log_every=LOG_EVERY
    )
    run_ranks(train_all, 2, {cell.name: cell.spec for cell in grid.table.cells()}, options)
    return Storage(options.storage)


def assert_every_point_is_there_once(grid: Grid, client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    for cell in grid.table.cells():
        (run,) = client.search_runs([experiment.experiment_id], f"tags.`mixgrid.key` = '{cell.trial_id}'")
        records = read_segments(grid.storage, cell.trial_id, read_result(grid.storage, cell.trial_id).segments)
        wanted = [(r.step, r.scalars["supervised_loss"]) for r in records if isinstance(r, TrainRecord)]
        points = client.get_metric_history(run.info.run_id, "train/supervised_loss")
        assert sorted((point.step, point.value) for point in points) == wanted
        assert run.info.status == "FINISHED"


# --- what MLflow's host check says --------------------------------------------------------------------------------


def test_a_name_that_mlflow_does_not_know_is_told_with_the_cure_on_the_other_host(cluster: Cluster) -> None:
    ask = "import sys; from orchestrator.submit.tracker import problem_with; print(problem_with(sys.argv[1]))"
    with cluster.mlflow() as uri:
        told = cluster.member.run([sys.executable, "-c", ask, uri], cluster.environment)
        raw = cluster.member.run(
            [sys.executable, "-c", RAW, f"{uri}/api/2.0/mlflow/experiments/search"], cluster.environment
        )
        print(raw.stdout, told.stdout)
        assert "403" in raw.stdout
        assert f"MLflow at {uri} refuses this name in its host check (403)" in told.stdout
        words = ["camvid", "--data", cluster.place, "--storage", cluster.place / "runs", "--tracking-uri", uri]
        run = cluster.member.run([BIN / "mixgrid", "run", *words], cluster.environment)
        print(run.stdout, run.stderr)
        assert run.returncode == 2
        assert "note: " + told.stdout.strip() in run.stdout
    with cluster.mlflow("--allowed-hosts", "head,head:5000") as uri:
        told = cluster.member.run([sys.executable, "-c", ask, uri], cluster.environment)
        assert told.stdout.strip() == "", "what the message says is the cure"
