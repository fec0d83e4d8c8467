"""Table and storage to cells with state: what a run takes up, and what it leaves to others."""

import os
from pathlib import Path

import pytest

from experiments import TABLES
from experiments.table import find_table
from orchestrator.lease import process_started
from orchestrator.plan import survey, to_run
from tests.orchestrator.test_lease import write_driver
from tests.results.builders import EIGHTH, TableStub, put_failed, put_score, spec_of
from trainer.records import (
    Failure,
    Result,
    trial_path,
)
from trainer.spec import TrialSpec
from trainer.storage import Storage

DEMO = find_table("demo", TABLES).selected(seeds="0")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_an_empty_storage_misses_every_cell_once(storage: Storage) -> None:
    planned = survey(DEMO, storage)
    assert {item.state for item in planned} == {"missing"}
    assert to_run(planned, retry_failed=False) == list(DEMO.cells())


def test_a_cell_of_a_live_driver_is_left_to_it(storage: Storage) -> None:
    write_driver(storage, DEMO.cells()[0].trial_id, pid=os.getpid(), started=process_started(os.getpid()))
    planned = survey(DEMO, storage)
    assert (planned[0].state, planned[0].holder) == ("running", "d1")
    assert DEMO.cells()[0] not in to_run(planned, retry_failed=False)


def test_failed_cells_run_again_only_when_asked(storage: Storage) -> None:
    cell = DEMO.cells()[0]
    failure = Failure(
        trial_id=cell.trial_id,
        attempt="a",
        reason="non_finite_loss",
        message="loss",
        trace_tail="",
        step=7,
        failed=0.0,
    )
    storage.write(trial_path(cell.trial_id, "failure.json"), failure.sealed())
    planned = survey(DEMO, storage)
    assert (planned[0].state, planned[0].trial.detail) == ("failed", "non_finite_loss: loss")
    assert cell not in to_run(planned, retry_failed=False)
    assert cell in to_run(planned, retry_failed=True)


def test_of_every_done_trial_the_judge_is_asked_once(storage: Storage) -> None:
    table = TableStub(fractions=(EIGHTH,))
    put_score(storage, "Supervised", EIGHTH, 0, 0.5)
    put_failed(storage, spec_of("Supervised", EIGHTH, 1))
    asked = []

    def judge(spec: TrialSpec, result: Result) -> str:
        asked.append((spec.trial_id, result.trial_id))
        return "code a -> b"

    planned = survey(table, storage, judge)
    assert asked == [(spec_of("Supervised", EIGHTH, 0).trial_id,) * 2]
    assert [(item.state, item.stale) for item in planned][:3] == [
        ("done", "code a -> b"),
        ("failed", ""),
        ("missing", ""),
    ]
    assert table.cells()[0] not in to_run(planned, retry_failed=True)
