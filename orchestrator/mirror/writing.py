"""Storage to MLflow, idempotent: MLflow may be down, or be rebuilt from storage at any time.

A run per trial, found or created by its trial_id; a run per table that lists its trials. Only metric records that a
checkpoint or result contains are mirrored, with their own time stamps, so that no point comes twice; the pictures of
their steps come with them, in `previews`.
"""

import hashlib
import json
import logging
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from experiments.table import Cell, Table
from orchestrator.mirror.client import EXPERIMENT, artifact_location, open_client, runs_by_key
from orchestrator.mirror.points import CLASS_NAMES, EVAL_SIZE, points_of, tags_of_names
from trainer.reading import (
    find_commits,
    find_previews,
    read_brief,
    read_failure,
    read_manifests,
    read_segments,
)
from trainer.records import (
    DamagedRecord,
    Manifest,
    Segment,
    trial_path,
)
from trainer.storage import Storage

_LOG = logging.getLogger("mixgrid.mirror")
_METRICS_AT_ONCE = 1000  # MLflow's limit per request
_SYNC_SECONDS = 15.0
_MIRRORED = "mixgrid.mirrored_segments"
_RESULT = "mixgrid.result_written"


class Mirror:
    """Brings MLflow to what storage says."""

    def __init__(self, storage: Storage, tracking_uri: str) -> None:
        self._storage = storage
        self._client = open_client(tracking_uri)
        self._artifacts = artifact_location(storage, tracking_uri)
        self._experiment = self._find_experiment()
        self._runs: dict[str, Run] = {}

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        with suppress(MlflowException):  # somebody else may create it at this moment
            return str(self._client.create_experiment(EXPERIMENT, self._artifacts))
        found = self._client.get_experiment_by_name(EXPERIMENT)
        assert found is not None
        return str(found.experiment_id)

    def sync(self, table: Table) -> None:
        """Mirror every trial of a table, and the table itself."""
        cells = {cell.trial_id: cell for cell in table.cells()}
        self._runs = runs_by_key(self._client, self._experiment)
        for trial_id, cell in cells.items():
            if self._storage.exists(trial_path(trial_id)):
                self._sync_trial(cell)
        self._sync_table(table, list(cells))

    def _run(self, key: str, name: str, tags: dict[str, str]) -> Run:
        if key not in self._runs:
            self._runs[key] = self._client.create_run(
                self._experiment, tags={"mixgrid.key": key, **tags}, run_name=name
            )
        return self._runs[key]

    def _sync_table(self, table: Table, trial_ids: Sequence[str]) -> None:
        run = self._run(f"table:{table.name}", f"table {table.name}", {"mixgrid.kind": "table"})
        listing = json.dumps({"table": table.name, "title": table.title, "trials": list(trial_ids)}, indent=1)
        done = sum(self._runs[i].data.tags.get("mixgrid.state") == "done" for i in trial_ids if i in self._runs)
        if run.data.tags.get("mixgrid.trials") != f"{done} of {len(trial_ids)} done":
            self._client.log_text(run.info.run_id, listing, "trials.json")
            self._client.set_tag(run.info.run_id, "mixgrid.trials", f"{done} of {len(trial_ids)} done")
            self._client.set_tag(run.info.run_id, "mlflow.note.content", table.title)
        if done == len(trial_ids) and run.info.status != "FINISHED":
            self._client.set_terminated(run.info.run_id)

    def _sync_trial(self, cell: Cell) -> None:
        trial_id = cell.trial_id
        run = self._run(trial_id, trial_id, {"mixgrid.kind": "trial"})
        is_whole = {CLASS_NAMES, EVAL_SIZE} <= run.data.tags.keys()  # else it was mirrored before they were noted
        if is_whole and run.data.tags.get(_RESULT) == self._result_stamp(trial_id) != "":
            return
        segments, state = self._history(trial_id)
        if num_mirrored(run, segments) is None:
            # Points of a history that is no more: a checkpoint rotted, or the trial began anew. MLflow cannot take
            # points back, so another run takes the place of this one.
            self._client.delete_run(run.info.run_id)
            del self._runs[trial_id]
            run = self._run(trial_id, trial_id, {"mixgrid.kind": "trial"})
        self._sync_facts(run, cell)
        self._sync_points(run, trial_id, segments)
        self._sync_end(run, trial_id, state)

    def _result_stamp(self, trial_id: str) -> str:
        """When the result was written; empty where there is none."""
        modified = self._storage.modified(trial_path(trial_id, "result.json"))
        return f"{modified:.6f}" if modified else ""

    def _history(self, trial_id: str) -> tuple[Sequence[Segment], str]:
        with suppress(DamagedRecord):
            result = read_brief(self._storage, trial_id)
            if result is not None:
                return result.segments, "done"
        commits = find_commits(self._storage, trial_id)
        state = "failed" if read_failure(self._storage, trial_id) is not None else "partial"
        return (commits[0].segments if commits else ()), state

    def _sync_facts(self, run: Run, cell: Cell) -> None:
        """Parameters, tags and the split as a dataset; written once per attempt."""
        attempts = self._storage.names(trial_path(cell.trial_id, "attempts"))
        manifests, _ = read_manifests(self._storage, cell.trial_id)
        newest = manifests[-1] if manifests else None
        is_known = newest is not None and run.data.tags.get("mixgrid.attempt") == newest.attempt
        if newest is None or (is_known and CLASS_NAMES in run.data.tags):
            return
        if not run.data.params:
            flat = dict(flatten(cell.spec.model_dump(mode="json")))
            self._client.log_batch(run.info.run_id, params=[Param(k, str(v)[:6000]) for k, v in flat.items()])
            self._client.log_inputs(run.info.run_id, datasets=[split_input(cell, newest)])
        tags = {
            "mixgrid.row": cell.row,
            "mixgrid.label_fraction": str(cell.label_fraction),
            "mixgrid.seed": str(cell.seed),
            "mixgrid.attempt": newest.attempt,
            "mixgrid.num_attempts": str(len(attempts)),
            "mixgrid.code_digest": newest.digests.code,
            "mixgrid.data_digest": newest.digests.data,
            "mixgrid.split_digest": newest.digests.split,
            "mixgrid.weights_digest": newest.digests.weights,
            "mixgrid.device": newest.device,
            "mixgrid.world_size": str(newest.world_size),
            "mixgrid.threads": str(newest.threads),
            "mixgrid.host": newest.host,
            **{f"mixgrid.version.{name}": version for name, version in newest.versions.items()},
            **tags_of_names(newest.class_names),
        }
        self._client.log_batch(run.info.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _sync_points(self, run: Run, trial_id: str, segments: Sequence[Segment]) -> None:
        fresh = segments[num_mirrored(run, segments) or 0 :]
        if not fresh:
            return
        class_names = self._class_names(trial_id)
        points = [p for r in read_segments(self._storage, trial_id, fresh) for p in points_of(r, class_names)]
        for first in range(0, len(points), _METRICS_AT_ONCE):
            self._client.log_batch(run.info.run_id, metrics=points[first : first + _METRICS_AT_ONCE])
        previews = find_previews(self._storage, trial_id, segments, passed_over=num_mirrored(run, segments) or 0)
        self._log_files(run, previews.values(), folder="previews")
        # Only now: if we die before this line the same points come again, which MLflow keeps once (equal in all keys),
        # and the same pictures, each of which takes its own place again.
        self._client.set_tag(run.info.run_id, _MIRRORED, word_of(segments))

    def _class_names(self, trial_id: str) -> tuple[str, ...]:
        manifests, _ = read_manifests(self._storage, trial_id)
        return manifests[-1].class_names if manifests else ()

    def _sync_end(self, run: Run, trial_id: str, state: str) -> None:
        stamp = self._result_stamp(trial_id)
        if state == "done":
            self._log_files(run, [trial_path(trial_id, "result.json")])
            self._client.set_terminated(run.info.run_id)
        elif state == "failed":
            self._client.set_terminated(run.info.run_id, status="FAILED")
        self._client.set_tag(run.info.run_id, "mixgrid.state", state)
        if state == "done":
            result = read_brief(self._storage, trial_id)
            if result is not None:  # all evaluations of a result are of one size
                self._client.set_tag(run.info.run_id, EVAL_SIZE, "x".join(map(str, result.evaluations[-1].eval_size)))
            self._client.set_tag(run.info.run_id, _RESULT, stamp)

    def _log_files(self, run: Run, paths: Iterable[str], *, folder: str | None = None) -> None:
        with tempfile.TemporaryDirectory() as place:
            for path in paths:
                copy = Path(place) / path.rpartition("/")[2]
                copy.write_bytes(self._storage.read(path))
                self._client.log_artifact(run.info.run_id, str(copy), folder)


def word_of(segments: Sequence[Segment]) -> str:
    """How many segments, and a digest of them: what a run notes of the points it holds."""
    digest = hashlib.sha256(" ".join(segment.sha256_of_file for segment in segments).encode())
    return f"{len(segments)} {digest.hexdigest()}"


def num_mirrored(run: Run, segments: Sequence[Segment]) -> int | None:
    """How many of a history's first segments a run holds; None where it holds points of another history."""
    word = run.data.tags.get(_MIRRORED, word_of(()))
    count = int(word.partition(" ")[0])
    return count if word_of(segments[:count]) == word else None


def flatten(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields as dotted names."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def split_input(cell: Cell, manifest: Manifest) -> DatasetInput:
    """The labelled split as an MLflow dataset; its digest is cut to MLflow's 36 characters."""
    name = f"{cell.spec.dataset.kind} {cell.label_fraction} labelled, split seed {cell.spec.resolved_split_seed}"
    profile = json.dumps({"num_labeled": manifest.num_labeled, "num_unlabeled": manifest.num_unlabeled})
    dataset = Dataset(
        name=name,
        digest=manifest.digests.split[:36],
        source_type="mixgrid split",
        source=json.dumps({"dataset": cell.spec.dataset.model_dump(mode="json")}),
        profile=profile,
    )
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", "training")])


def sync_once(table: Table, storage: Storage, tracking_uri: str) -> str | None:
    """Mirror now; return what went wrong, if anything did."""
    try:
        Mirror(storage, tracking_uri).sync(table)
    except (MlflowException, DamagedRecord, OSError) as error:
        return f"MLflow at {tracking_uri} does not have everything yet ({error}); `mixgrid track` brings it later"
    return None


@contextmanager
def mirroring(table: Table, storage: Storage, tracking_uri: str) -> Iterator[None]:
    """Mirror now and then while the body runs; training does not notice a tracker that is away."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_SYNC_SECONDS):
            problem = sync_once(table, storage, tracking_uri)
            if problem:
                _LOG.warning("%s", problem)

    thread = threading.Thread(target=follow, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
