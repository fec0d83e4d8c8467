"""When a drill has passed and when it has not; the drill itself runs in test_driver.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.drill import Comparison, Drill, DrillError, DrillOutcome, Kill, report
from tests.orchestrator.conftest import small_table

KILL = Kill("worker", "12:00:00", safe_step=40, seen_step=43, resumed_step=40, gone_seconds=None)
PASSED = DrillOutcome(
    cell=small_table().cells()[1],
    command="mixgrid run small",
    checkpoint_every=20,
    kills=(KILL, replace(KILL, victim="trial process"), replace(KILL, victim="driver", gone_seconds=2.0)),
    comparisons=(Comparison("weights_sha256", "aa", "aa"),),
    seconds_in_peace=10.0,
    seconds_under_fire=30.0,
)


def test_equal_bits_after_kills_in_the_midst_pass() -> None:
    assert PASSED.has_passed
    text = report(PASSED)
    assert "# Drill: ComplexMix@1/3#0" in text
    assert "Passed on " in text
    assert "| worker | 12:00:00 | 40 | 43 | 40 | 3 |  |" in text
    assert "Steps made again: 9 of at most 60" in text


@pytest.mark.parametrize(
    "change",
    [
        {"kills": ()},
        {"kills": PASSED.kills[:2]},
        {"kills": tuple(replace(kill, seen_step=40) for kill in PASSED.kills)},
        {"kills": (*PASSED.kills, replace(KILL, resumed_step=0))},
        {"comparisons": (Comparison("weights_sha256", "aa", "bb"),)},
    ],
    ids=["no kill", "the driver lived", "nothing was lost", "started from zero", "other bits"],
)
def test_anything_else_fails(change: dict[str, object]) -> None:
    outcome = replace(PASSED, **change)
    assert not outcome.has_passed
    assert "FAILED on " in report(outcome)


def test_a_kill_just_behind_a_commit_does_not_count_and_does_no_harm() -> None:
    behind = replace(KILL, seen_step=36)
    assert not behind.counts
    assert replace(PASSED, kills=(*PASSED.kills, behind)).has_passed


def test_a_difference_is_pointed_at() -> None:
    assert "| aa | bb | DIFFERENT |" in report(replace(PASSED, comparisons=(Comparison("w", "aa", "bb"),)))


def test_a_run_that_cannot_begin_says_where_its_log_is(tmp_path: Path) -> None:
    drill = Drill(PASSED.cell, ("no-such-table",), tmp_path, 20)
    with pytest.raises(DrillError, match=f"exit code 2: see run.log below {tmp_path}"):
        drill.run(1, say=lambda _text: None)
    assert "camvid, demo" in (tmp_path / "in-peace/run.log").read_text()
