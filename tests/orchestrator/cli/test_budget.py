"""What is said of a budget: what was used, what did not fit, and which runs would tell most."""

from pathlib import Path

import pytest
from rich.console import Console

from experiments import TABLES
from experiments.table import find_table
from orchestrator.agenda import Agenda
from orchestrator.cli.budget import narrowing_words, say_budget, say_narrowing, with_lengths
from orchestrator.driver import GridOutcome
from orchestrator.order import Narrowing
from orchestrator.plan import survey
from results.aggregate import Selection
from results.compute import compute_table
from tests.results.builders import EIGHTH, QUARTER, TableStub, put_scores, read
from trainer.storage import Storage

NAMES = {name: f"Row@1/8#{name}" for name in "abcdef"}


def said(capsys: pytest.CaptureFixture[str], left_out: str, **limits: float) -> str:
    outcome = GridOutcome({}, was_interrupted=False, left_out=tuple(left_out), device_hours=1.5)
    say_budget(outcome, Agenda(**limits), NAMES, Console(width=200))  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_what_was_used_and_what_did_not_fit_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "abcdef", max_device_hours=2.0)
    assert told.startswith("1.5 of 2 device-hours used; not started")
    assert "Row@1/8#a, Row@1/8#b, Row@1/8#c, Row@1/8#d and 2 more" in told
    assert said(capsys, "", max_device_hours=2.0) == "1.5 of 2 device-hours used\n"
    assert said(capsys, "abc") == ""


def test_the_least_certain_comparison_is_found_in_the_computed_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, table = Storage(str(tmp_path)), TableStub(seeds=(0, 1, 2), reference_row="Supervised")
    calm, wild = [0.50, 0.50, 0.51], [0.50, 0.53, 0.56]
    put_scores(storage, {"Supervised": {EIGHTH: [0.5] * 3, QUARTER: [0.5] * 3}})
    put_scores(storage, {"ComplexMix": {EIGHTH: calm, QUARTER: wild}})
    say_narrowing(compute_table(read(storage, table), table, Selection()), table.seeds, Console(width=300))
    assert capsys.readouterr().out == (
        "least certain: ComplexMix beside Supervised at 1/4, standard error 1.73 points over 3 pairs of seeds; "
        "seed 3 of ComplexMix and of Supervised, where not done, would make it about 1.50\n"
    )


def test_a_comparison_of_too_few_pairs_is_said_to_have_no_error_yet() -> None:
    assert narrowing_words(Narrowing("Row", "1/8", 0, None, (0, 1), None), "Ref") == (
        "least certain: Row beside Ref at 1/8, no pair of seeds so far; seeds 0, 1 of Row and of Ref, where not done, "
        "would give it a standard error"
    )


def test_an_agenda_learns_the_lengths_of_the_cells_that_are_to_run(tmp_path: Path) -> None:
    table, storage = find_table("demo", TABLES).selected(seeds="0"), Storage(str(tmp_path))
    planned = survey(table, storage)
    cells = table.cells()[:2]
    agenda = with_lengths(Agenda((), 3, 2.0, waits_for_nodes=True), planned, cells, storage, str(tmp_path))
    assert [trial.trial_id for trial in agenda.lengths] == [cell.trial_id for cell in cells]
    assert (agenda.max_concurrent, agenda.max_device_hours, agenda.waits_for_nodes) == (3, 2.0, True)
