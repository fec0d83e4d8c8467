"""What a run looks like from outside: rates and time left come from what trials say, and from nothing else."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.lease import process_started, this_host
from orchestrator.plan import never_stale
from orchestrator.sight import Sight, look, remembering, use_of_this_machine
from tests.orchestrator.conftest import small_table
from tests.results.builders import put_done, put_failed, put_manifest
from trainer.records import (
    DriverRecord,
    ProgressRecord,
    attempt_path,
)
from trainer.spec import TrialSpec
from trainer.storage import Storage

ATTEMPT = "20260101T000000-00000001"
JUDGED_AT = ("height=64", "width=128", "scene_height=64", "scene_width=128")  # the size of the builders' records
TABLE = replace(small_table(num_steps=20), seeds=(0, 1, 2)).changed([f"dataset.{word}" for word in JUDGED_AT])
SPECS = [cell.spec for cell in TABLE.cells()]
"""Three of Supervised, three of ComplexMix."""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def hold(storage: Storage, specs: Sequence[TrialSpec], dashboard: str = "") -> None:
    """A driver of this very process trains these."""
    record = DriverRecord(
        driver="d1",
        host=this_host(),
        pid=os.getpid(),
        process_started=process_started(os.getpid()),
        table="stub",
        trial_ids=tuple(spec.trial_id for spec in specs),
        finished=False,
        dashboard=dashboard,
    )
    storage.write("drivers/d1.json", record.sealed())


def say(storage: Storage, spec: TrialSpec, step: int, rate: float, *, seconds_ago: float = 0.0) -> None:
    """A trial says how far it is."""
    put_manifest(storage, spec, attempt=ATTEMPT)
    record = ProgressRecord(
        trial_id=spec.trial_id,
        attempt=ATTEMPT,
        step=step,
        num_steps=spec.num_steps,
        steps_per_second=rate,
        time=storage.now() - seconds_ago,
    )
    storage.write(attempt_path(spec.trial_id, ATTEMPT, "progress.json"), record.sealed())


def see(storage: Storage) -> Sight:
    return look(TABLE, storage, never_stale)


def test_those_that_speak_come_first_and_their_rates_add_up(storage: Storage) -> None:
    hold(storage, SPECS[:3])
    say(storage, SPECS[1], 10, 2.0)
    say(storage, SPECS[2], 4, 3.0)
    sight = see(storage)
    assert [going.item.cell.seed for going in sight.going] == [1, 2, 0]
    assert sight.rate == 5.0
    assert sight.devices() == {("node-a", "cpu"): 2}


def test_time_left_is_that_of_what_is_missing_at_the_rates_of_now(storage: Storage) -> None:
    put_done(storage, SPECS[0])
    put_failed(storage, SPECS[1])
    hold(storage, SPECS[2:5])
    say(storage, SPECS[2], 10, 1.0)  # 10 of 20 steps left: 10 s
    say(storage, SPECS[3], 0, 0.5)  # 40 s
    # two more of ComplexMix wait, 40 s each: on two at once 40 beside 40, then 40 beside 10
    assert see(storage).seconds_left() == pytest.approx(80.0)


def test_a_row_that_nobody_trains_is_taken_to_be_as_fast_as_the_median(storage: Storage) -> None:
    hold(storage, SPECS[:3])
    for spec, rate in zip(SPECS[:3], (1.0, 4.0, 2.0), strict=True):
        say(storage, spec, 20, rate)
    assert see(storage).seconds_left() == pytest.approx(10.0)  # three of 20 steps at 2 a second, three at once


def test_a_trial_that_fell_silent_counts_for_no_rate(storage: Storage) -> None:
    hold(storage, SPECS[:1])
    say(storage, SPECS[0], 10, 2.0, seconds_ago=300.0)
    sight = see(storage)
    assert (sight.rate, sight.seconds_left(), sum(sight.devices().values())) == (0.0, None, 0)
    assert sight.going[0].silent_seconds == pytest.approx(300.0, abs=5.0)


def test_a_cell_that_nobody_holds_is_not_going_on(storage: Storage) -> None:
    say(storage, SPECS[0], 10, 2.0)
    sight = see(storage)
    assert sight.going == ()
    assert sight.seconds_left() is None
    assert not sight.is_done


def test_the_dashboard_of_a_live_driver_is_known(storage: Storage) -> None:
    hold(storage, SPECS, dashboard="http://10.0.0.1:8265")
    assert see(storage).dashboards == ("http://10.0.0.1:8265",)


def test_a_judge_is_asked_once_of_each_result(storage: Storage) -> None:
    put_done(storage, SPECS[0])
    asked = []
    judge = remembering(lambda spec, _result: asked.append(spec.trial_id) or "changed")  # type: ignore[func-returns-value]
    for _ in range(3):
        assert look(TABLE, storage, judge).planned[0].stale == "changed"
    assert asked == [SPECS[0].trial_id]


def test_gpus_are_told_where_they_are_and_cpus_elsewhere() -> None:
    assert use_of_this_machine(lambda _command: "0, 97, 61440, 81559\n1, 0, 0, 81559\n") == [
        "GPU 0 97 %, 60 of 80 GiB",
        "GPU 1 0 %, 0 of 80 GiB",
    ]
    for broken in ("", "0, [N/A], 1, 2\n", "No devices were found\n"):
        (line,) = use_of_this_machine(lambda _command, broken=broken: broken)  # type: ignore[misc]
        assert line.startswith("load ")
