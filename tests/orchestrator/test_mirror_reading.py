"""MLflow read back: the frame of the storage to the last bit, or a word on what is missing."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from orchestrator.mirror import EXPERIMENT, default_tracking_uri, read_tracked, sync_once
from orchestrator.mirror import reading as mirror_reading
from orchestrator.mirror.points import metric_word, names_in, tags_of_names
from results.agreement import disagreements
from results.frame import read_frames, results_frame
from tests.fuzz.hammer import mixgrid
from tests.results.builders import (
    ATTEMPT,
    EIGHTH,
    RowStub,
    TableStub,
    asked_for,
    judged,
    put_done,
    spec_of,
)
from trainer.records import (
    Manifest,
    Result,
    attempt_path,
    trial_path,
    write_segment,
)
from trainer.storage import Storage

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own dependencies warn at import and on SQLite

NAMES = ("traffic light", "Straße/Weg", "a.b")
TABLE = TableStub(rows=(RowStub("Supervised"), RowStub("ComplexMix", 2)), fractions=(EIGHTH,), seeds=(0, 1))
ODD = {
    ("student", 10): (0.1 + 0.2, None, 1 / 3),
    ("student", 20): (2 / 3, 0.7, 1e-17),
    ("teacher", 20): (None, 0.5, 0.5),
}


def put_mirrored(storage: Storage, label: str, seed: int) -> None:
    """A done trial with its segment, whose numbers need every bit of a float and whose names need other signs."""
    spec = spec_of(label, seed=seed)
    records = [with_mean(step, network) for step, network in asked_for(spec)]
    put_done(storage, spec, *records)
    segment = write_segment(storage, trial_id=spec.trial_id, attempt=ATTEMPT, step=20, records=records)
    change(storage, Result, trial_path(spec.trial_id, "result.json"), class_names=NAMES, segments=(segment,))
    change(storage, Manifest, attempt_path(spec.trial_id, ATTEMPT, "manifest.json"), class_names=NAMES)


def with_mean(step: int, network: str) -> Any:
    ious = ODD.get((network, step), (0.25, 0.5, 0.75))
    defined = [iou for iou in ious if iou is not None]
    return judged(step, sum(defined) / len(defined), network, classes=ious)


def change(storage: Storage, kind: Any, path: str, **fields: Any) -> None:
    storage.write(path, kind.find(storage, path).model_copy(update=fields).sealed())


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage(str(tmp_path_factory.mktemp("reading") / "runs"))
    for label in ("Supervised", "ComplexMix"):
        for seed in (0, 1):
            put_mirrored(storage, label, seed)
    assert sync_once(TABLE, storage, default_tracking_uri(storage)) is None
    return storage


def frames(storage: Storage, uri: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return read_frames(storage, TABLE).results, results_frame(read_tracked(TABLE, uri))


def run_of(client: MlflowClient, trial_id: str) -> Any:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`mixgrid.key` = '{trial_id}'")
    return run


def test_a_sqlite_file_gives_the_frame_of_the_storage_to_the_last_bit(storage: Storage) -> None:
    ours, theirs = frames(storage, default_tracking_uri(storage))
    pd.testing.assert_frame_equal(theirs, ours, check_exact=True)
    assert len(ours) == 2 * (2 + 4) * (len(NAMES) + 1)
    assert set(theirs["class_name"]) == {*NAMES, "mean"}
    assert disagreements(ours, theirs) == ()


@pytest.mark.parametrize("way", ["one run at a time", "pages of one run", "a full answer"])
def test_every_way_of_reading_histories_gives_the_same(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    ours, _ = frames(storage, default_tracking_uri(storage))
    if way == "one run at a time":
        monkeypatch.setattr(mirror_reading, "_bulk", lambda *_: None)
    elif way == "pages of one run":
        monkeypatch.setattr(mirror_reading, "_RUNS_AT_ONCE", 1)
    else:
        monkeypatch.setattr(mirror_reading, "_POINTS_AT_ONCE", 1)  # it may have been cut off: not trusted
    pd.testing.assert_frame_equal(frames(storage, default_tracking_uri(storage))[1], ours, check_exact=True)


def test_a_number_that_was_changed_there_is_found(storage: Storage) -> None:
    client = MlflowClient(tracking_uri=default_tracking_uri(storage))
    trial_id = spec_of("Supervised", seed=1).trial_id
    client.log_metric(run_of(client, trial_id).info.run_id, f"student/iou/{metric_word('a.b', 2)}", 0.5, step=15)
    (line,) = disagreements(*frames(storage, default_tracking_uri(storage)))
    assert line == f"not in the storage: Supervised@1/8#1 ({trial_id}): student a.b at step 15"


def test_a_trial_that_is_not_done_there_is_missing(storage: Storage) -> None:
    client = MlflowClient(tracking_uri=default_tracking_uri(storage))
    trial_id = spec_of("ComplexMix", seed=1).trial_id
    run_id = run_of(client, trial_id).info.run_id
    client.set_tag(run_id, "mixgrid.state", "partial")
    try:
        found = disagreements(*frames(storage, default_tracking_uri(storage)))
        assert any(line.startswith("missing in the tracker: ComplexMix@1/8#1") for line in found)
    finally:
        client.set_tag(run_id, "mixgrid.state", "done")


def test_runs_of_before_names_were_noted_get_them_from_the_next_sync(storage: Storage) -> None:
    uri = default_tracking_uri(storage)
    client = MlflowClient(tracking_uri=uri)
    for tag in ("mixgrid.class_names", "mixgrid.eval_size"):
        run_id = run_of(client, spec_of("ComplexMix").trial_id).info.run_id
        client.delete_tag(run_id, tag)
        with pytest.raises(ValueError, match="`mixgrid track` adds them"):
            read_tracked(TABLE, uri)
        assert sync_once(TABLE, storage, uri) is None
        assert len(read_tracked(TABLE, uri)) == 4


def test_an_mlflow_that_holds_nothing_of_ours_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no experiment 'mixgrid': `mixgrid track` makes it"):
        read_tracked(TABLE, f"sqlite:///{tmp_path / 'empty.db'}")


def test_long_names_come_back_from_several_tags() -> None:
    names = tuple(f"{'n' * 90}{number}" for number in range(150))
    tags = tags_of_names(names)
    assert len(tags) > 1
    assert max(map(len, tags.values())) <= 8000
    assert names_in(tags) == names
    assert names_in({}) == ()


# --- the command --------------------------------------------------------------------------------------------------

OWN = f"""
from tests.results.builders import METHODS
from trainer.spec import Evaluation, Synthetic, TinyNetwork
from experiments.table import Frame, Fraction, Row, Table
FRAME = Frame(dataset=Synthetic(), network=TinyNetwork(), initial_weights="random", num_steps=20,
              evaluation=Evaluation(every=10))
STUB = Table(name="stub", title="Stub", frame=FRAME, rows=(Row("ComplexMix", METHODS["ComplexMix"]),),
             fractions=({EIGHTH!r},), seeds=(0, 1))
"""


def test_the_command_compares_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "runs"))
    put_mirrored(storage, "ComplexMix", 0)
    (tmp_path / "stub.py").write_text(OWN)
    words = ("track", str(tmp_path / "stub.py"), "--storage", storage.url)
    assert mixgrid(*words).code == 0
    told = mixgrid(*words, "--check")
    assert (told.code, "16 numbers in the storage, 16 in MLflow" in told.out) == (0, True)
    put_mirrored(storage, "ComplexMix", 1)
    told = mixgrid(*words, "--check")
    assert (told.code, "missing in the tracker: ComplexMix@1/8#1" in told.out) == (1, True)
    assert "every number is the same" not in told.out


# --- a real server ------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An MLflow server of its own on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path / 'server.db'}",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *words, *places],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server did not come up")


@pytest.mark.slow
def test_a_server_gives_the_frame_of_the_storage_to_the_last_bit(
    storage: Storage, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync_once(TABLE, storage, server) is None
    asked: list[str] = []
    http_request = mirror_reading.http_request

    def counting(creds: Any, route: str, method: str, **given: Any) -> Any:
        asked.append(route)
        return http_request(creds, route, method, **given)

    monkeypatch.setattr(mirror_reading, "http_request", counting)
    ours, theirs = frames(storage, server)
    pd.testing.assert_frame_equal(theirs, ours, check_exact=True)
    assert len(asked) == 2 * (len(NAMES) + 1)  # one request a metric for all runs
    monkeypatch.setattr(mirror_reading, "_BULK", "/no-such-route")
    pd.testing.assert_frame_equal(frames(storage, server)[1], ours, check_exact=True)
