"""MLflow to judgements: what the runs of a table's trials hold, read back. Asks storage nothing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.rest_utils import http_request

from experiments.table import Cell, Table
from orchestrator.mirror.client import EXPERIMENT, open_client, runs_by_key
from orchestrator.mirror.points import EVAL_SIZE, MEAN_IOU, names_in, words_of
from trainer.records import Judgement

_RUNS_AT_ONCE = 100  # the limits of MLflow's route for histories in bulk
_POINTS_AT_ONCE = 25_000
_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"

Tracked = tuple[Cell, tuple[str, ...], tuple[Judgement, ...]]
Values = dict[int, float]
"""Values of a metric by step."""


def read_tracked(table: Table, tracking_uri: str) -> list[Tracked]:
    """Each cell whose trial MLflow holds as done, with the names of its classes and what was judged, in order.

    A class without a value at a step is undefined there; so is everything of an evaluation without any value, which
    leaves no trace in MLflow.

    Raises: ValueError where MLflow has no experiment of ours, or runs of before class names were noted.
    """
    client = open_client(tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise ValueError(f"MLflow at {tracking_uri} has no experiment {EXPERIMENT!r}: `mixgrid track` makes it")
    cells = {cell.trial_id: cell for cell in table.cells()}
    runs = {key: run for key, run in runs_by_key(client, experiment.experiment_id).items() if key in cells}
    done = {key: run for key, run in runs.items() if run.data.tags.get("mixgrid.state") == "done"}
    for key, run in done.items():
        if not names_in(run.data.tags) or EVAL_SIZE not in run.data.tags:
            raise ValueError(f"the run of {key} does not name its classes or their size: `mixgrid track` adds them")
    points = _read_points(client, done.values(), most_points=max(map(_num_evaluations, cells.values()), default=1))
    return [
        (cell, names_in(run.data.tags), _judgements(run, points[run.info.run_id]))
        for cell in table.cells()
        if (run := done.get(cell.trial_id)) is not None
    ]


def _num_evaluations(cell: Cell) -> int:
    return cell.spec.num_steps // cell.spec.evaluation.every + 1


def _judgements(run: Run, points: Mapping[str, Values]) -> tuple[Judgement, ...]:
    """What the points of a run say of each network at each step, in order."""
    names = names_in(run.data.tags)
    height, width = map(int, run.data.tags[EVAL_SIZE].split("x"))
    found = []
    for network in ("student", "teacher"):
        mean = points.get(f"{network}/{MEAN_IOU}", {})
        classes = [points.get(f"{network}/{word}", {}) for word in words_of(names)]
        for step in sorted(set(mean).union(*classes)):
            ious = tuple(values.get(step) for values in classes)
            judgement = Judgement(
                step=step,
                time=0.0,
                network=network,
                class_iou=ious,
                mean_iou=mean.get(step),
                num_undefined=ious.count(None),
                eval_size=(height, width),
            )
            found.append(judgement)
    return tuple(sorted(found, key=lambda judgement: judgement.step))  # stable: the student stays first


# --- histories ----------------------------------------------------------------------------------------------------


def _read_points(client: MlflowClient, runs: Iterable[Run], *, most_points: int) -> dict[str, dict[str, Values]]:
    """Histories of all judgements, by run and metric; many runs at a time where the server can.

    Args:
        most_points: that one metric of one run has.
    """
    having: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        for key in run.data.metrics:
            if key.startswith(("student/", "teacher/")):
                having[key].append(run.info.run_id)
    points: dict[str, dict[str, Values]] = defaultdict(dict)
    at_once = max(1, min(_RUNS_AT_ONCE, (_POINTS_AT_ONCE - 1) // most_points))
    for key, run_ids in having.items():
        for first in range(0, len(run_ids), at_once):
            for run_id, values in _histories(client, key, run_ids[first : first + at_once]).items():
                points[run_id][key] = values
    return points


def _histories(client: MlflowClient, key: str, run_ids: Sequence[str]) -> dict[str, Values]:
    """One metric of several runs: in one request, else in one for each run."""
    found = _bulk(client, key, run_ids)
    if found is None or len(found) >= _POINTS_AT_ONCE:
        return {
            run_id: {point.step: point.value for point in client.get_metric_history(run_id, key)} for run_id in run_ids
        }
    histories: dict[str, Values] = {run_id: {} for run_id in run_ids}
    for run_id, step, value in found:
        histories[run_id][step] = value
    return histories


def _bulk(client: MlflowClient, key: str, run_ids: Sequence[str]) -> list[tuple[str, int, float]] | None:
    """(run, step, value) of one metric by the way of MLflow's own pages; None where that way is not there."""
    store: Any = client._tracking_client.store
    if hasattr(store, "get_metric_history_bulk"):
        points = store.get_metric_history_bulk(list(run_ids), key, _POINTS_AT_ONCE)
        return [(point.run_id, point.step, point.value) for point in points]
    with suppress(MlflowException, AttributeError, KeyError, ValueError):
        asked = {"run_id": list(run_ids), "metric_key": key, "max_results": _POINTS_AT_ONCE}
        answer = http_request(store.get_host_creds(), _BULK, "GET", params=asked)
        if answer.status_code == 200:
            return [(point["run_id"], int(point["step"]), float(point["value"])) for point in answer.json()["metrics"]]
    return None
