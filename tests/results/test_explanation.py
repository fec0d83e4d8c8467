"""What is said of a number: every entry is true, and the commands work as they stand."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from results.aggregate import Selection
from results.compute import compute_table
from results.explanation import Command, aggregate_entries, curves, entries_of, sparkline, thinned
from tests.results.builders import (
    ATTEMPT,
    EIGHTH,
    CellStub,
    TableStub,
    change_sealed,
    digests,
    judged,
    put_done,
    put_failed,
    put_partial,
    put_score,
    read,
    spec_of,
)
from tests.results.test_staleness import HereStub, here
from trainer.records import (
    Acceptance,
    AcceptedChange,
    TrainRecord,
    attempt_path,
    superseded_path,
    trial_path,
    write_segment,
)
from trainer.spec import canonical_json, read_spec
from trainer.storage import Storage

SPEC = spec_of("ComplexMix", EIGHTH, 0)
CELL = CellStub("ComplexMix", EIGHTH, 0, SPEC)
RESULT = trial_path(SPEC.trial_id, "result.json")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path))
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    return storage


def told(storage: Storage, **words: object) -> dict[str, str]:
    """Entries by title, those of one title joined."""
    found: dict[str, str] = {}
    for title, text in entries_of(storage, CELL, **words):  # type: ignore[arg-type]
        found[title] = f"{found[title]}\n{text}" if title in found else text
    return found


def put_manifest_fields(storage: Storage, **fields: object) -> None:
    change_sealed(storage, attempt_path(SPEC.trial_id, ATTEMPT, "manifest.json"), lambda body: body.update(fields))


def test_a_done_trial_is_told_with_all_it_was_made_of(storage: Storage) -> None:
    found = told(storage)
    assert found["trial"] == SPEC.trial_id
    assert found["state"] == "done"
    assert found["spec"] == canonical_json(SPEC)
    assert {name: found[name] for name in ("code", "data", "split", "weights", "precision")} == {
        name: getattr(digests(), name) for name in ("code", "data", "split", "weights", "precision")
    }
    assert "on node-a, cpu, 1 ranks" in found["attempt"]
    put_manifest_fields(storage, rank_hosts=["node-a (10.0.0.7)", "node-b (10.0.0.8)", "node-a (10.0.0.7)"])
    assert "on node-a (10.0.0.7), node-b (10.0.0.8), cpu" in told(storage)["attempt"]
    assert "stale" not in found


def test_both_networks_have_their_curve(storage: Storage) -> None:
    found = told(storage)
    assert found["student"] == "mean IoU 0.5 at step 20, at 64 x 128; ▁█ in percent 10: 25.00, 20: 50.00"
    assert found["teacher"] == "mean IoU 0.51 at step 20, at 64 x 128; ▁█ in percent 10: 26.00, 20: 51.00"


def test_a_best_evaluation_before_the_last_and_undefined_classes_are_told() -> None:
    ((_, text),) = curves([judged(20, 0.5, classes=(0.5, None, 0.5)), judged(10, 0.75)])
    assert text.startswith("mean IoU 0.5 at step 20, at 64 x 128; 1 classes undefined; best 0.75 at step 10; █▁")


def test_a_curve_without_a_number_says_so() -> None:
    ((_, text),) = curves([judged(20, None, classes=(None, None, None))])
    assert text == "mean IoU undefined at step 20, at 64 x 128; 3 classes undefined"


def test_bars_go_from_the_smallest_to_the_largest_with_gaps() -> None:
    assert sparkline([0.0, 0.5, None, 1.0]) == "▁▅ █"
    assert sparkline([0.3, 0.3]) == "▁▁"
    assert sparkline([None]) == " "
    assert sparkline([]) == ""


@pytest.mark.parametrize("count", [1, 12, 13, 40])
def test_of_many_points_at_most_twelve_are_told_the_last_among_them(count: int) -> None:
    points = thinned([judged(step, 0.5) for step in range(count)])
    assert len(points) <= 12
    assert points[-1].step == count - 1
    assert len(points) > min(count, 12) // 2


def test_losses_are_read_where_they_are_asked_for(storage: Storage) -> None:
    records = [
        TrainRecord(step=step, time=0.0, scalars={"supervised_loss": 4.0 / step, "area": 1.0}) for step in (1, 2)
    ]
    segment = write_segment(storage, trial_id=SPEC.trial_id, attempt=ATTEMPT, step=2, records=records)
    change_sealed(storage, RESULT, lambda body: body.update(segments=[segment.model_dump(mode="json")]))
    assert "loss" not in told(storage)
    assert told(storage, with_losses=True)["loss"] == "supervised_loss 4 -> 2 █▁"


def test_a_trial_that_is_not_done_is_told_as_far_as_it_is(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert told(storage)["state"] == "missing"
    put_partial(storage, SPEC)
    assert told(storage)["state"].startswith("partial attempt")
    put_failed(storage, SPEC)
    assert told(storage)["state"] == "failed non_finite_loss: loss is nan"
    assert "student" not in told(storage)


# --- staleness ----------------------------------------------------------------------------------------------------


def test_what_is_stale_and_what_was_not_checked_is_told(storage: Storage) -> None:
    assert told(storage, here=here(code="f" * 64))["stale"] == "code c0dec0dec0de -> ffffffffffff"
    assert told(storage, here=HereStub({}))["not here"] == "code, data, split, weights, torch, python: not checked"


def test_what_was_accepted_is_told_with_person_day_and_reason(storage: Storage) -> None:
    change = AcceptedChange(attempt=ATTEMPT, accepted=86_400.0, by="ada", why="only words", facts={"code": "f" * 64})
    record = Acceptance(trial_id=SPEC.trial_id, changes=(change,))
    storage.write(trial_path(SPEC.trial_id, "accepted.json"), record.sealed())
    found = told(storage, here=here(code="f" * 64))
    assert found["accepted"] == "code ffffffffffff, by ada on 1970-01-02: only words"
    assert "accepted" not in told(storage, here=here())  # back at what it was: nothing has to be accepted


def test_results_that_were_set_aside_are_told(storage: Storage) -> None:
    storage.write(superseded_path(SPEC.trial_id, ATTEMPT), storage.read(RESULT))
    storage.write(superseded_path(SPEC.trial_id, "b"), b"{}")
    put_done(storage, SPEC, judged(20, 0.6))
    first, second = told(storage)["set aside"].splitlines()
    assert first == f"a result of attempt {ATTEMPT} and code c0dec0dec0de, mean IoU student 0.5, teacher 0.51"
    assert "not accepted" in second


# --- commands -----------------------------------------------------------------------------------------------------


def test_the_command_names_the_cell_and_where_its_trial_found_things(storage: Storage) -> None:
    put_manifest_fields(storage, options={"data": "/my data", "weights": "/w"}, world_size=2, threads=3)
    words = ("demo", "--set", "num_steps=20", "--rows", "ComplexMix", "--fractions", "1/8", "--seeds", "0")
    found = told(storage, command=Command(words))
    assert shlex.split(found["reproduce"]) == [
        "mixgrid", "run", *words, "--storage", "reproduced", "--data", "/my data", "--weights", "/w",
        "--workers", "2", "--cpus-per-worker", "3",
    ]  # fmt: skip
    assert "by hand" not in found  # alone it would have other last bits


def test_folders_of_this_machine_come_first(storage: Storage) -> None:
    put_manifest_fields(storage, options={"data": "/theirs"})
    found = told(storage, command=Command(("demo",), ("--data", "/mine")))
    assert shlex.split(found["reproduce"])[-2:] == ["--data", "/mine"]
    assert shlex.split(found["by hand"])[-2:] == ["--data", "/mine"]


def test_the_spec_of_the_command_by_hand_is_a_file_that_is_there_or_is_written(
    storage: Storage, tmp_path: Path
) -> None:
    path = storage.locate(trial_path(SPEC.trial_id, "spec.json"))
    assert shlex.split(told(storage)["by hand"])[:3] == ["mixgrid", "train", path]

    @dataclass
    class Remote:
        is_local: bool = False

        def __getattr__(self, name: str) -> object:
            return getattr(storage, name)

    echo, text, arrow, file, _, *command = shlex.split(told(Remote())["by hand"])  # type: ignore[arg-type]
    assert (echo, arrow, file, command[:3]) == ("echo", ">", "spec.json", ["mixgrid", "train", "spec.json"])
    (tmp_path / "spec.json").write_text(text)
    assert read_spec(tmp_path / "spec.json") == SPEC


# --- the cell of the table ----------------------------------------------------------------------------------------


def test_a_cell_is_told_as_the_table_prints_it(storage: Storage) -> None:
    put_score(storage, "ComplexMix", EIGHTH, 1, 0.75)
    table = TableStub()
    frames = read(storage, table, stale={SPEC.trial_id: "code a -> b"})
    found = dict(aggregate_entries(compute_table(frames, table, Selection()), "ComplexMix", "1/8"))
    assert found["printed"].startswith("mean 0.625, sample standard deviation (ddof 1) 0.17677669529663")
    assert found["printed"].endswith("n = 2 of 3, in [0, 1]")
    assert found["seeds"] == "0: 0.5; 1: 0.75"
    assert found["absent"] == "missing 2"
    assert found["stale"] == "seed 0: code a -> b"
    assert found["selection"] == "student, at the last step"


def test_an_empty_cell_and_one_that_is_not_declared_are_told(tmp_path: Path) -> None:
    table = TableStub(fractions=(EIGHTH, type(EIGHTH)(1)))
    computed = compute_table(read(Storage(str(tmp_path)), table), table, Selection("best"))
    assert dict(aggregate_entries(computed, "ComplexMix", "1")) == {}
    found = dict(aggregate_entries(computed, "ComplexMix", "1/8"))
    assert found["printed"].startswith("mean undefined, sample standard deviation (ddof 1) none, n = 0 of 3")
    assert found["seeds"] == "none is done"
    assert "best evaluation step" in found["selection"]
