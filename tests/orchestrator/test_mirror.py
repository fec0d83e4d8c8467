"""Storage to a real MLflow on SQLite: everything arrives once, whatever is repeated."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from orchestrator.mirror import EXPERIMENT, Mirror, default_tracking_uri, sync_once, word_of
from orchestrator.stale_results import supersede
from tests.contracts import StopAt
from tests.orchestrator.conftest import small_table
from trainer.host import NoHost
from trainer.records import EvaluationRecord, Storage, TrainRecord, read_result, read_segments, trial_path
from trainer.run import run_trial
from trainer.spec import RunOptions

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
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"result.json", "preview.png"}
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
