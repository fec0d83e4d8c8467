"""Storage to a real MLflow on SQLite: everything arrives once, whatever is repeated."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from orchestrator.mirror import EXPERIMENT, Mirror, default_tracking_uri, sync_once, word_of
from orchestrator.stale_results import supersede
from tests.contracts import Killed, KilledAt, StopAt
from tests.orchestrator.conftest import small_table
from trainer.host import NoHost
from trainer.reading import read_result, read_segments
from trainer.records import (
    EvaluationRecord,
    TrainRecord,
    attempt_path,
    trial_path,
)
from trainer.run import run_trial
from trainer.spec import RunOptions
from trainer.storage import Storage

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own dependencies warn at import and on SQLite


@pytest.fixture(scope="module")
def mirrored(trained: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, MlflowClient]:
    copy = tmp_path_factory.mktemp("mirror") / "runs"
    shutil.copytree(trained, copy)
    storage = Storage(str(copy))
    uri = default_tracking_uri(storage)
    assert sync_once(small_table(), storage, uri) is None
    assert sync_once(small_table(), storage, uri) is None
    return storage, MlflowClient(tracking_uri=uri)


def run_of(client: MlflowClient, key: str):  # type: ignore[no-untyped-def]
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], f"tags.`mixgrid.key` = '{key}'")
    assert len(runs) == 1
    return runs[0]


def test_every_point_of_every_history_is_there_once(mirrored: tuple[Storage, MlflowClient]) -> None:
    storage, client = mirrored
    for cell in small_table().cells():
        run, result = run_of(client, cell.trial_id), read_result(storage, cell.trial_id)
        assert result is not None
        records = list(read_segments(storage, cell.trial_id, result.segments))
        losses = [r for r in records if isinstance(r, TrainRecord)]
        points = client.get_metric_history(run.info.run_id, "train/supervised_loss")
        assert [(p.step, p.value) for p in points] == [(r.step, r.scalars["supervised_loss"]) for r in losses]
        students = [r for r in records if isinstance(r, EvaluationRecord) and r.network == "student"]
        points = client.get_metric_history(run.info.run_id, "student/mean_iou")
        assert [(p.step, p.value) for p in points] == [(r.step, r.mean_iou) for r in students]


def test_a_run_carries_parameters_tags_the_split_and_the_result(mirrored: tuple[Storage, MlflowClient]) -> None:
    _, client = mirrored
    cell = small_table().cells()[1]
    run = run_of(client, cell.trial_id)
    assert run.data.params["method.mask.kind"] == "complex"
    assert run.data.tags["mixgrid.row"] == "ComplexMix"
    assert len(run.data.tags["mixgrid.code_digest"]) == 64
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["mixgrid.split_digest"][:36]
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"result.json", "previews"}
    assert run.info.status == "FINISHED"


def test_a_table_lists_its_trials(mirrored: tuple[Storage, MlflowClient], tmp_path: Path) -> None:
    _, client = mirrored
    run = run_of(client, "table:small")
    assert run.data.tags["mixgrid.trials"] == "2 of 2 done"
    listing = Path(client.download_artifacts(run.info.run_id, "trials.json", str(tmp_path))).read_text()
    assert all(cell.trial_id in listing for cell in small_table().cells())


def test_points_that_were_sent_before_a_crash_do_not_come_twice(mirrored: tuple[Storage, MlflowClient]) -> None:
    storage, client = mirrored
    cell = small_table().cells()[0]
    run = run_of(client, cell.trial_id)
    before = len(client.get_metric_history(run.info.run_id, "train/supervised_loss"))
    client.set_tag(run.info.run_id, "mixgrid.mirrored_segments", word_of(()))
    client.set_tag(run.info.run_id, "mixgrid.result_written", "never")
    Mirror(storage, default_tracking_uri(storage)).sync(small_table())
    assert len(client.get_metric_history(run.info.run_id, "train/supervised_loss")) == before


def test_a_tracker_that_is_away_is_told_and_not_raised(trained: str) -> None:
    problem = sync_once(small_table(), Storage(trained), "http://127.0.0.1:9")
    assert problem is not None
    assert "mixgrid track" in problem


def test_a_history_that_was_replaced_takes_its_points_along(
    trained: str, places: dict[str, str], tmp_path: Path
) -> None:
    cell = small_table().cells()[0]
    options = RunOptions(storage=str(tmp_path / "runs"), checkpoint_every=2, log_every=1, **places)
    storage = Storage(options.storage)
    uri = default_tracking_uri(storage)
    run_trial(cell.spec, options, StopAt(4))
    assert sync_once(small_table(), storage, uri) is None
    client = MlflowClient(tracking_uri=uri)
    assert steps_of(client, cell.trial_id) == [1, 2, 3, 4]
    storage.remove(trial_path(cell.trial_id))  # as --restart does
    run_trial(cell.spec, options, StopAt(2))
    assert sync_once(small_table(), storage, uri) is None
    assert steps_of(client, cell.trial_id) == [1, 2]
    run_trial(cell.spec, options, NoHost())
    assert sync_once(small_table(), storage, uri) is None
    assert steps_of(client, cell.trial_id) == list(range(1, 13))


def pictures_of(client: MlflowClient, trial_id: str) -> list[str]:
    run = run_of(client, trial_id)
    return sorted(Path(found.path).name for found in client.list_artifacts(run.info.run_id, "previews"))


def test_pictures_come_with_the_records_of_their_steps_once_and_only_of_attempts_that_count(
    trained: str, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = small_table().changed(["evaluation.every=2"])
    cell = table.cells()[1]
    options = RunOptions(storage=str(tmp_path / "runs"), checkpoint_every=4, log_every=1, **places)
    storage = Storage(options.storage)
    uri = default_tracking_uri(storage)
    with pytest.raises(Killed):
        run_trial(cell.spec, options, KilledAt(7))  # drew steps 2, 4 and 6, of which 4 are safe
    logged: list[str] = []
    log_artifact = MlflowClient.log_artifact

    def noting(client: MlflowClient, run_id: str, path: str, folder: str | None = None) -> None:
        logged.extend({Path(path).name} - {"trials.json"})
        log_artifact(client, run_id, path, folder)

    monkeypatch.setattr(MlflowClient, "log_artifact", noting)
    for _ in range(2):
        assert sync_once(table, storage, uri) is None
    assert logged == [f"preview-{step:08d}.png" for step in (2, 4)]
    assert run_trial(cell.spec, options, NoHost()).kind == "done"
    for _ in range(2):
        assert sync_once(table, storage, uri) is None
    steps = [f"preview-{step:08d}.png" for step in (2, 4, 6, 8, 10, 12)]
    assert logged == [*steps, "result.json"]
    client = MlflowClient(tracking_uri=uri)
    assert pictures_of(client, cell.trial_id) == steps
    shown = client.download_artifacts(run_of(client, cell.trial_id).info.run_id, f"previews/{steps[2]}", str(tmp_path))
    second = storage.names(trial_path(cell.trial_id, "attempts"))[1]
    assert Path(shown).read_bytes() == storage.read(attempt_path(cell.trial_id, second, steps[2]))


def test_pictures_that_were_sent_before_a_crash_take_their_own_places(
    mirrored: tuple[Storage, MlflowClient],
) -> None:
    storage, client = mirrored
    cell = small_table().cells()[1]
    before = pictures_of(client, cell.trial_id)
    run = run_of(client, cell.trial_id)
    client.set_tag(run.info.run_id, "mixgrid.mirrored_segments", word_of(()))
    client.set_tag(run.info.run_id, "mixgrid.result_written", "never")
    Mirror(storage, default_tracking_uri(storage)).sync(small_table())
    assert pictures_of(client, cell.trial_id) == before == ["preview-00000006.png", "preview-00000012.png"]


def test_a_result_that_was_set_aside_takes_its_points_along_and_the_new_one_comes(
    trained: str, places: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    storage, cell = Storage(str(tmp_path / "runs")), small_table().cells()[0]
    uri = default_tracking_uri(storage)
    client = MlflowClient(tracking_uri=uri)
    assert sync_once(small_table(), storage, uri) is None
    before, result = steps_of(client, cell.trial_id), read_result(storage, cell.trial_id)
    assert result is not None
    supersede(storage, "small", {cell.trial_id: result.attempt})
    assert sync_once(small_table(), storage, uri) is None
    assert steps_of(client, cell.trial_id) == []
    assert run_of(client, cell.trial_id).data.tags["mixgrid.state"] == "partial"
    run_trial(cell.spec, RunOptions(storage=storage.url, **places), NoHost())
    assert sync_once(small_table(), storage, uri) is None
    assert steps_of(client, cell.trial_id) == before
    assert run_of(client, cell.trial_id).data.tags["mixgrid.state"] == "done"


def steps_of(client: MlflowClient, trial_id: str) -> list[int]:
    points = client.get_metric_history(run_of(client, trial_id).info.run_id, "train/supervised_loss")
    return sorted(point.step for point in points)
