"""Stale cells as a user meets them: marked, explained, accepted, trained again."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lease import Lease
from tests.orchestrator.cli.test_commands import ROOT, mixgrid
from tests.orchestrator.conftest import small_table
from tests.orchestrator.test_driver import command, environment
from tests.results.builders import change_sealed
from trainer.reading import read_accepted, read_result
from trainer.records import (
    attempt_path,
    superseded_path,
    trial_path,
)
from trainer.storage import Storage

CELL = small_table().cells()[0]
TRIAL = CELL.trial_id
RESULT = trial_path(TRIAL, "result.json")


def set_digest(name: str, value: str) -> Callable[[dict[str, Any]], None]:
    """A change of what a result says it was made with."""

    def change(body: dict[str, Any]) -> None:
        body["digests"][name] = value
        body["digests"].pop("sha256", None)

    return change


@pytest.fixture
def stale(trained: str, tmp_path: Path) -> Storage:
    """A copy of the trained storage in which other code made the first of two cells."""
    shutil.copytree(trained, tmp_path / "runs")
    storage = Storage(str(tmp_path / "runs"))
    change_sealed(storage, RESULT, set_digest("code", "f" * 64))
    return storage


@pytest.fixture
def words(stale: Storage, table_file: str, places: dict[str, str]) -> tuple[str, ...]:
    """What names the table and the places of this machine."""
    return (table_file, "--storage", stale.url, "--data", places["data"], "--cache", places["cache"])


def test_status_and_plan_mark_a_stale_cell_and_say_why_and_what_to_do(words: tuple[str, ...]) -> None:
    for verb in ("status", "plan"):
        told = mixgrid(verb, *words).stdout
        assert "● 1 done, ◆ 1 stale" in told
        assert "stale: code ffffffffffff -> " in told
        assert ": Supervised@1/3#0\n" in told
        assert "`mixgrid run --rerun-stale`" in told


def test_scripts_read_what_is_stale_beside_the_state(words: tuple[str, ...]) -> None:
    first, second = json.loads(mixgrid("status", *words, "--json").stdout)
    assert (first["state"], second["state"]) == ("done", "done")
    assert first["stale"].startswith("code ffffffffffff -> ")
    assert second["stale"] == ""


def test_data_and_split_count_only_where_they_can_be_looked_at(
    stale: Storage, words: tuple[str, ...], table_file: str, tmp_path: Path
) -> None:
    change_sealed(stale, RESULT, set_digest("data", "e" * 64))
    assert "; data eeeeeeeeeeee -> " in mixgrid("status", *words).stdout
    elsewhere = mixgrid("status", table_file, "--storage", stale.url, "--data", str(tmp_path / "nowhere")).stdout
    assert "stale: code ffffffffffff" in elsewhere
    assert "data eeee" not in elsewhere


def test_tables_carry_what_is_stale(words: tuple[str, ...]) -> None:
    told = mixgrid("table", *words, "--format", "csv-long").stdout
    assert told.count("code ffffffffffff -> ") == 1
    assert "stale, code ffffffffffff" in mixgrid("table", *words).stdout


def test_accepting_notes_it_and_the_cell_is_done_again(stale: Storage, words: tuple[str, ...]) -> None:
    told = mixgrid("accept", *words, "--why", "only  words\nchanged")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("Supervised@1/3#0 stands: code ffffffffffff -> ")
    assert told.stdout.endswith("1 cells accepted\n")
    (change,) = read_accepted(stale, TRIAL)
    assert (change.why, list(change.facts)) == ("only words changed", ["code"])
    assert "2 done" in mixgrid("status", *words).stdout
    assert "by " in mixgrid("explain", *words, "Supervised@1/3").stdout
    assert mixgrid("accept", *words, "--why", "x").stdout == "nothing is stale here\n"
    assert len(read_accepted(stale, TRIAL)) == 1


@pytest.mark.parametrize(("why", "message"), [((), "--why"), (("--why", " "), "--why is empty")])
def test_accepting_wants_a_reason(why: tuple[str, ...], message: str, stale: Storage, words: tuple[str, ...]) -> None:
    told = mixgrid("accept", *words, *why)
    assert told.returncode == 2
    assert message in told.stderr
    assert read_accepted(stale, TRIAL) == ()


def test_verify_notes_what_is_stale_without_doubting_the_number(stale: Storage, words: tuple[str, ...]) -> None:
    told = mixgrid("verify", *words)
    assert told.returncode == 0, told.stdout
    assert f"note: Supervised@1/3#0 ({TRIAL}): stale: code ffffffffffff -> " in told.stdout
    assert "the means and standard deviations" in told.stdout


def test_a_table_that_was_written_before_something_changed_is_no_drift(
    trained: str, table_file: str, places: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    storage = Storage(str(tmp_path / "runs"))
    words = (table_file, "--storage", storage.url, "--data", places["data"], "--cache", places["cache"])
    assert mixgrid("run", *words).returncode == 0
    attempt = read_result(storage, TRIAL).attempt  # type: ignore[union-attr]
    manifest = attempt_path(TRIAL, attempt, "manifest.json")
    change_sealed(storage, manifest, lambda body: body["versions"].update(numpy="1.0"))
    told = mixgrid("verify", *words)
    assert (told.returncode, "stale: numpy 1.0 -> " in told.stdout) == (0, True), told.stdout


# --- explain ------------------------------------------------------------------------------------------------------


def entries(*words: str) -> list[tuple[str, str]]:
    """What `explain` prints, by title."""
    told = mixgrid("explain", *words, COLUMNS="80")
    assert told.returncode == 0, told.stderr
    lines = [line for line in told.stdout.splitlines() if line.startswith("  ")]
    return [(line[2:15].strip(), line[15:]) for line in lines]


def test_a_cell_is_explained_as_the_table_prints_it_and_a_seed_alone_is_not(words: tuple[str, ...]) -> None:
    found = dict(entries(*words, "ComplexMix@1/3"))
    result = read_result(Storage(words[2]), small_table().cells()[1].trial_id)
    assert result is not None
    last = [record.mean_iou for record in result.evaluations if record.network == "student"][-1]
    assert found["printed"].startswith(f"mean {last!r}, sample standard deviation (ddof 1) none, n = 1 of 1")
    assert found["selection"] == "student, at the last step"
    assert {"student", "teacher", "loss", "weights kept", "reproduce", "by hand"} <= found.keys()
    assert "printed" not in dict(entries(*words, "ComplexMix@1/3#0"))


@pytest.mark.parametrize("title", ["by hand", pytest.param("reproduce", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_the_commands_of_explain_make_the_same_weights_when_pasted(
    title: str, stale: Storage, words: tuple[str, ...], places: dict[str, str], tmp_path: Path
) -> None:
    settings = ("--set", "num_steps=4", "--set", "evaluation.every=2", "--set", "method.supervised_start=1")
    mixed = ("--rows", "ComplexMix", *settings) if title == "reproduce" else ()
    pasted = dict(entries(words[0], *mixed, *words[1:], "ComplexMix@1/3#0"))[title]
    program = [sys.executable, "-c", "from orchestrator.cli.app import main; main()", *shlex.split(pasted)[1:]]
    more = ["--cache", places["cache"], *(["--no-mlflow"] if title == "reproduce" else [])]
    ran = subprocess.run(
        [*program, *more], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = small_table().changed([word for word in settings if word != "--set"] if mixed else [])
    trial_id = table.cells()[1].trial_id
    again = read_result(Storage(str(tmp_path / "reproduced")), trial_id)
    assert again is not None
    if not mixed:
        assert again.weights_sha256 == read_result(stale, trial_id).weights_sha256  # type: ignore[union-attr]


# --- training again -----------------------------------------------------------------------------------------------


def test_stale_cells_that_others_hold_are_left_to_them(stale: Storage, words: tuple[str, ...]) -> None:
    content = stale.read(RESULT)
    with Lease(stale, "small", [TRIAL]):
        told = mixgrid("run", *words, "--rerun-stale", "--no-mlflow")
    assert told.returncode == 0, told.stdout + told.stderr
    assert stale.read(RESULT) == content
    assert "is trained again" not in told.stdout
    assert "stale: `mixgrid run --rerun-stale`" in told.stdout


def test_the_command_of_explain_chooses_the_very_cell(words: tuple[str, ...]) -> None:
    settings = ("--set", "optimizer.learning_rate=0.03")
    pasted = dict(entries(words[0], *settings, *words[1:], "ComplexMix@1/3#0"))["reproduce"]
    program, verb, *rest = shlex.split(pasted)
    assert (program, verb) == ("mixgrid", "run")
    (cell,) = json.loads(mixgrid("status", *rest, "--json").stdout)
    assert cell["trial_id"] == small_table().changed(settings[1::2]).cells()[1].trial_id


@pytest.mark.ray
@pytest.mark.slow
def test_a_stale_cell_is_trained_again_from_the_start_and_its_old_result_stays(
    stale: Storage, table_file: str, places: dict[str, str]
) -> None:
    old, others = stale.read(RESULT), stale.read(trial_path(small_table().cells()[1].trial_id, "result.json"))
    attempt = json.loads(old)["attempt"]
    ran = subprocess.run(
        command(table_file, stale.url, places, "--rerun-stale"),
        capture_output=True, text=True, cwd=ROOT, env=environment(), check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Supervised@1/3#0 is trained again: code ffffffffffff -> " in ran.stdout
    assert "● 2 done" in mixgrid("status", table_file, "--storage", stale.url).stdout
    assert stale.read(superseded_path(TRIAL, attempt)) == old
    new = read_result(stale, TRIAL)
    assert new is not None
    assert new.attempt != attempt
    assert new.weights_sha256 == json.loads(old)["weights_sha256"]  # the code was the same after all
    assert stale.read(trial_path(small_table().cells()[1].trial_id, "result.json")) == others
