"""Reading storage into frames: what counts, what is named, and in which order."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from results.frame import ATTEMPT_COLUMNS, CELL_COLUMNS, RESULT_COLUMNS
from tests.results.builders import (
    ATTEMPT,
    EIGHTH,
    FULL,
    RowStub,
    TableStub,
    change_sealed,
    judged,
    put_done,
    put_failed,
    put_manifest,
    put_partial,
    put_score,
    read,
    spec_of,
)
from trainer.reading import trial_state
from trainer.records import attempt_path, trial_path
from trainer.spec import Evaluation
from trainer.storage import Storage

ONE_ROW = TableStub(rows=(RowStub("ComplexMix"),), fractions=(EIGHTH,))


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "runs"))


def states(frames):
    return dict(zip(frames.cells["seed"], frames.cells["state"], strict=True))


def test_a_table_without_cells_gives_empty_frames_with_all_columns(storage):
    frames = read(storage, TableStub(rows=()))
    assert {name: str(dtype) for name, dtype in frames.results.dtypes.items()} == RESULT_COLUMNS
    assert list(frames.attempts) == list(ATTEMPT_COLUMNS)
    assert list(frames.cells) == list(CELL_COLUMNS)


def test_dtypes_are_the_same_with_and_without_records(storage):
    empty = read(storage, TableStub(rows=()))
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    full = read(storage, ONE_ROW)
    for name in ("results", "attempts", "cells"):
        pd.testing.assert_series_equal(getattr(full, name).dtypes, getattr(empty, name).dtypes)


def test_an_empty_storage_has_only_missing_cells(storage):
    frames = read(storage, ONE_ROW)
    assert states(frames) == {0: "missing", 1: "missing", 2: "missing"}
    assert frames.results.empty
    assert frames.attempts.empty


def test_each_class_and_the_mean_have_a_line_per_step_and_network(storage):
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    results = read(storage, ONE_ROW).results
    assert list(results["class_name"][:4]) == ["road", "sky", "car", "mean"]
    assert list(results["step"]) == [10] * 8 + [20] * 8
    assert list(results["network"][:8]) == ["student"] * 4 + ["teacher"] * 4
    assert results.loc[0, ["label_fraction", "eval_size", "initial_weights"]].tolist() == ["1/8", "64x128", "random"]


@pytest.mark.parametrize(
    ("protocol", "words"), [("full_whole", "(whole images)"), ("full_sliding", "(sliding windows)")]
)
def test_the_size_that_files_were_judged_at_says_how(storage, protocol, words):
    class Table(TableStub):
        def cells(self):
            return tuple(replace(cell, spec=judged_by(cell.spec)) for cell in super().cells())

    def judged_by(spec):
        return spec.model_copy(update={"evaluation": Evaluation(every=10, protocol=protocol)})

    put_done(storage, judged_by(spec_of("ComplexMix")))
    results = read(storage, Table(rows=ONE_ROW.rows, fractions=(EIGHTH,))).results
    assert set(results["eval_size"]) == {f"64x128 {words}"}


def test_an_undefined_class_is_nan_and_not_zero(storage):
    spec = spec_of("ComplexMix")
    put_done(storage, spec, judged(10, 0.5, classes=(0.25, None, 0.75)))
    ious = read(storage, ONE_ROW).results["iou"].tolist()[:4]
    assert math.isnan(ious[1])
    assert [ious[0], *ious[2:]] == [0.25, 0.75, 0.5]


def test_failed_and_partial_trials_are_named_and_give_no_numbers(storage):
    put_failed(storage, spec_of("ComplexMix", seed=0))
    put_partial(storage, spec_of("ComplexMix", seed=1), judged(10, 0.4))
    frames = read(storage, ONE_ROW)
    assert states(frames) == {0: "failed", 1: "partial", 2: "missing"}
    assert frames.results.empty
    assert "loss is nan" in frames.cells["detail"][0]
    assert frames.cells["step"].tolist() == [7, 10, 0]


def test_partial_trials_are_read_from_their_newest_commit_when_asked(storage):
    put_partial(storage, spec_of("ComplexMix", seed=1), judged(10, 0.4))
    frames = read(storage, ONE_ROW, include_partial=True)
    assert frames.results.loc[frames.results["class_name"] == "mean", "iou"].tolist() == [0.4]


def test_a_partial_trial_falls_back_to_the_commit_that_can_be_read(storage):
    spec = spec_of("ComplexMix", seed=1)
    put_partial(storage, spec, judged(10, 0.4), step=10)
    put_partial(storage, spec, judged(15, 0.9), step=15)
    storage.write(attempt_path(spec.trial_id, ATTEMPT, "metrics-00000015.jsonl"), b"{}\n")
    results = read(storage, ONE_ROW, include_partial=True).results
    assert set(results["step"]) == {10}


def test_running_trials_are_said_to_run_unless_they_are_done(storage):
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    ids = {spec_of("ComplexMix", seed=seed).trial_id for seed in (0, 1)}
    assert states(read(storage, ONE_ROW, running=ids)) == {0: "done", 1: "running", 2: "missing"}


def test_a_damaged_result_is_not_counted_and_is_named_by_its_place_in_the_storage(storage, tmp_path):
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    path = trial_path(spec_of("ComplexMix").trial_id, "result.json")
    storage.write(path, storage.read(path).replace(b'"mean_iou": 0.5', b'"mean_iou": 0.9'))
    frames = read(storage, ONE_ROW)
    assert states(frames)[0] == "partial"
    assert f"result not accepted: {path} was changed" in frames.cells["detail"][0]
    assert str(tmp_path) not in frames.cells["detail"][0]
    assert frames.results.empty


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda body: body["evaluations"].pop(), "3 evaluations of the 4 that its spec asks for"),
        (lambda body: body["evaluations"].append(body["evaluations"][0]), "judged twice at one step"),
        (lambda body: body["evaluations"][0].update(step=15), "asks for no evaluation of student at step 15"),
        (lambda body: body["evaluations"][0].update(mean_iou=50.0), "mean_iou 50.0 does not follow"),
        (lambda body: body.update(class_names=["road", "sky"]), "2 classes are wanted"),
        (lambda body: body.update(num_steps=10), "is after 10 steps, its spec 20"),
    ],
)
def test_a_sealed_result_that_contradicts_itself_is_not_counted(storage, change, named):
    spec = spec_of("ComplexMix")
    put_done(storage, spec)
    change_sealed(storage, trial_path(spec.trial_id, "result.json"), change)
    frames = read(storage, ONE_ROW)
    assert frames.cells["state"][0] == trial_state(storage, spec.trial_id).kind == "partial"
    assert frames.cells["detail"].str.contains(named)[0]
    assert frames.results.empty


def test_a_result_in_the_folder_of_another_trial_is_not_counted(storage):
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    path = trial_path(spec_of("ComplexMix", seed=0).trial_id, "result.json")
    storage.write(trial_path(spec_of("ComplexMix", seed=1).trial_id, "result.json"), storage.read(path))
    assert states(read(storage, ONE_ROW)) == {0: "done", 1: "partial", 2: "missing"}


def test_the_order_of_writing_changes_no_frame(tmp_path):
    one, two = Storage(str(tmp_path / "one")), Storage(str(tmp_path / "two"))
    for seed in (0, 1, 2):
        put_score(one, "ComplexMix", EIGHTH, seed, 0.5 + seed / 10)
    for seed in (2, 0, 1):
        put_score(two, "ComplexMix", EIGHTH, seed, 0.5 + seed / 10)
    frames, others = read(one, ONE_ROW), read(two, ONE_ROW)
    for name in ("results", "attempts", "cells"):
        pd.testing.assert_frame_equal(getattr(frames, name), getattr(others, name))


def test_evaluations_in_any_order_are_read_in_order_of_steps(storage):
    put_done(storage, spec_of("ComplexMix"), judged(20, 0.5, "teacher"), judged(20, 0.5), judged(10, 0.25))
    means = read(storage, ONE_ROW).results.query("class_name == 'mean'")
    assert list(zip(means["step"], means["network"], strict=True)) == [
        (10, "student"),
        (10, "teacher"),
        (20, "student"),
        (20, "teacher"),
    ]


def test_a_trial_in_two_rows_is_shown_in_both(storage):
    put_score(storage, "Supervised", FULL, 0, 0.5)

    class Twice(TableStub):
        def cells(self):
            cell = super().cells()[0]
            return (cell, type(cell)("Again", cell.label_fraction, cell.seed, cell.spec))

    frames = read(storage, Twice(rows=(RowStub("Supervised"),), fractions=(FULL,)))
    assert list(frames.results["row"].unique()) == ["Supervised", "Again"]
    assert len(frames.attempts) == 1


def test_attempts_say_which_of_them_the_result_stands_on(storage):
    put_manifest(storage, spec_of("ComplexMix"), attempt="20251231T000000-00000000", code="old" * 5)
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    attempts = read(storage, ONE_ROW).attempts
    assert attempts["in_result"].tolist() == [False, True]
    assert attempts["num_labeled"].tolist() == [30, 30]
    assert json.loads(attempts["versions"][0]) == {"torch": "2.11.0", "python": "3.11"}


def test_a_damaged_manifest_is_named_and_its_trial_still_counts(storage):
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    storage.write(attempt_path(spec_of("ComplexMix").trial_id, ATTEMPT, "manifest.json"), b"{}")
    frames = read(storage, ONE_ROW)
    assert frames.cells["state"][0] == "done"
    assert "manifest not accepted" in frames.cells["detail"][0]


def test_results_load_neither_torch_nor_ray_nor_mlflow():
    code = "import sys, results.tables; sys.exit(len({'torch', 'ray', 'mlflow', 'orchestrator'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
