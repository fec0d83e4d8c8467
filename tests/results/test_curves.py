"""Training curves: every scalar of the history a result stands on, once."""

import pandas as pd
import pytest

from results.frame import CURVE_COLUMNS, read_curves
from tests.results.builders import ATTEMPT, EIGHTH, RowStub, TableStub, digests, judged, put_done, put_manifest, spec_of
from trainer.records import (
    Commit,
    Result,
    Segment,
    TrainRecord,
    attempt_path,
    checkpoint_name,
    trial_path,
)
from trainer.records import write_segment as write
from trainer.storage import Storage

TABLE = TableStub(rows=(RowStub("ComplexMix"),), fractions=(EIGHTH,))
DONE, HALF = (spec_of("ComplexMix", seed=seed) for seed in (0, 1))


def trained(step: int, **scalars: float) -> TrainRecord:
    return TrainRecord(step=step, time=0.0, scalars=scalars)


def segment(storage: Storage, trial_id: str, step: int, *records, attempt: str = ATTEMPT) -> Segment:
    return write(storage, trial_id=trial_id, attempt=attempt, step=step, records=records)


@pytest.fixture
def storage(tmp_path) -> Storage:
    """A trial done in two attempts, and one half done."""
    storage = Storage(str(tmp_path / "runs"))
    put_done(storage, DONE)
    segments = (
        segment(storage, DONE.trial_id, 10, trained(5, loss=2.0, area=0.5), judged(10, 0.25), attempt="earlier"),
        segment(storage, DONE.trial_id, 20, trained(15, loss=1.0)),
    )
    segment(storage, DONE.trial_id, 15, trained(12, loss=9.0), attempt="earlier")
    path = trial_path(DONE.trial_id, "result.json")
    storage.write(path, Result.find(storage, path).model_copy(update={"segments": segments}).sealed())
    put_manifest(storage, HALF)
    put_commit(storage, 10, segment(storage, HALF.trial_id, 10, trained(10, loss=3.0)))
    return storage


def put_commit(storage: Storage, step: int, *segments: Segment) -> None:
    commit = Commit(
        trial_id=HALF.trial_id,
        attempt=ATTEMPT,
        step=step,
        time=1.0,
        digests=digests(),
        world_size=1,
        wall_seconds=1.0,
        files={},
        segments=segments,
    )
    storage.write(attempt_path(HALF.trial_id, ATTEMPT, checkpoint_name(step), "commit.json"), commit.sealed())


def lines(curves: pd.DataFrame) -> list[tuple]:
    return list(curves[["seed", "step", "name", "value"]].itertuples(index=False, name=None))


def test_a_done_trial_has_the_scalars_of_its_history_and_no_others(storage):
    curves = read_curves(storage, TABLE)
    assert lines(curves) == [(0, 5, "area", 0.5), (0, 5, "loss", 2.0), (0, 15, "loss", 1.0)]
    assert set(curves["trial_id"]) == {DONE.trial_id}
    assert set(zip(curves["row"], curves["label_fraction"], strict=True)) == {("ComplexMix", "1/8")}


def test_half_done_trials_come_when_asked_for(storage):
    assert lines(read_curves(storage, TABLE, include_partial=True))[3:] == [(1, 10, "loss", 3.0)]


def test_a_half_done_trial_falls_back_to_the_history_that_can_be_read(storage):
    put_commit(storage, 15, segment(storage, HALF.trial_id, 15, trained(15, loss=4.0)))
    storage.write(attempt_path(HALF.trial_id, ATTEMPT, "metrics-00000015.jsonl"), b"{}")
    assert lines(read_curves(storage, TABLE, include_partial=True))[3:] == [(1, 10, "loss", 3.0)]


def test_a_damaged_history_has_no_lines(storage):
    path = attempt_path(DONE.trial_id, ATTEMPT, "metrics-00000020.jsonl")
    storage.write(path, storage.read(path).replace(b"1.0", b"0.1"))
    assert lines(read_curves(storage, TABLE)) == []


def test_dtypes_are_declared_with_and_without_lines(storage, tmp_path):
    for curves in (read_curves(storage, TABLE), read_curves(Storage(str(tmp_path / "empty")), TABLE)):
        assert {name: str(dtype) for name, dtype in curves.dtypes.items()} == CURVE_COLUMNS
