"""A real MLflow server that goes away in the middle of a table and comes back: every point arrives exactly once."""

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from orchestrator.mirror import EXPERIMENT, mirroring, sync_once
from tests.chaos.test_grid_under_fire import free_port
from tests.contracts import StopAt
from tests.orchestrator.conftest import small_table
from trainer.host import Host, NoHost
from trainer.reading import read_result, read_segments
from trainer.records import TrainRecord
from trainer.run import run_trial
from trainer.spec import RunOptions
from trainer.storage import Storage

pytestmark = [pytest.mark.chaos, pytest.mark.filterwarnings("ignore")]
TABLE = small_table()


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """A server over a SQLite file; killed without grace at the end."""
    command = [str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    server = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    uri, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=2):
                break
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.2)
        yield uri
    finally:
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=10)


def train_on(options: RunOptions, host: Host) -> None:
    for cell in TABLE.cells():
        run_trial(cell.spec, options, host)


def test_every_point_arrives_once_though_the_server_was_away_in_the_middle(
    tmp_path: Path, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.mirror.writing._SYNC_SECONDS", 1.0)
    options = RunOptions(storage=str(tmp_path / "runs"), checkpoint_every=2, log_every=1, **places)
    storage, port = Storage(options.storage), free_port()
    with mlflow_server(tmp_path, port) as uri:
        with mirroring(TABLE, storage, uri):
            train_on(options, StopAt(4))
        assert sync_once(TABLE, storage, uri) is None
    with mirroring(TABLE, storage, uri):
        started = time.monotonic()
        train_on(options, StopAt(8))
        assert time.monotonic() - started < 20, "training waited for the server"
    problem = sync_once(TABLE, storage, uri)
    assert problem is not None
    assert "`mixgrid track` brings it later" in problem
    with mlflow_server(tmp_path, port):
        with mirroring(TABLE, storage, uri):
            train_on(options, NoHost())
        assert sync_once(TABLE, storage, uri) is None
        assert_every_point_is_there_once(storage, MlflowClient(tracking_uri=uri))


def assert_every_point_is_there_once(storage: Storage, client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    for cell in TABLE.cells():
        (run,) = client.search_runs([experiment.experiment_id], f"tags.`mixgrid.key` = '{cell.trial_id}'")
        records = read_segments(storage, cell.trial_id, read_result(storage, cell.trial_id).segments)
        wanted = [(r.step, r.scalars["supervised_loss"]) for r in records if isinstance(r, TrainRecord)]
        points = client.get_metric_history(run.info.run_id, "train/supervised_loss")
        assert sorted((point.step, point.value) for point in points) == wanted
        assert run.info.status == "FINISHED"
