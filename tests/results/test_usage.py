"""What a table cost, worked out by hand."""

import math
from typing import Any

import pytest

from results.reading import Attempt
from results.usage import (
    DeviceUsage,
    Usage,
    add_up,
    compute_statement,
    hours_line,
    read_usage,
    trials_outside,
    usage_of,
)
from tests.results.builders import EIGHTH, RowStub, TableStub, put_failed, put_manifest, put_score, read, spec_of
from trainer.storage import Storage

GPU, CPU = "NVIDIA H100", "cpu (x86_64)"


def go(
    trial_id: str = "a",
    *,
    hours: float,
    steps: tuple[int, int, int],
    ending: str = "silent",
    counts: bool = True,
    **fields: Any,
) -> Attempt:
    """An attempt of so many hours that began, was last seen, and is kept up to these steps."""
    defaults = {
        "attempt": "x",
        "device": GPU,
        "num_gpus": 1.0,
        "world_size": 1,
        "threads": 1,
        "host": "",
        "versions": "{}",
        "code_digest": "",
        "data_digest": "",
        "split_digest": "",
        "weights_digest": "",
        "num_labeled": 0,
    }
    return Attempt(
        trial_id=trial_id,
        in_result=counts,
        started=0.0,
        ended=3600 * hours,
        wall_seconds=3600 * hours,
        ending=ending,
        resumed_from_step=steps[0],
        last_step=steps[1],
        kept_step=steps[2],
        **{**defaults, **fields},
    )


def hours_of(usage: Usage, device: str = GPU) -> tuple[float, float, float]:
    """Hours used, lost and open on a device."""
    (found,) = [part for part in usage.devices if part.device == device]
    return found.used_hours, found.lost_hours, found.open_hours


def approx(*hours: float) -> Any:
    return pytest.approx(hours)


def test_a_run_in_one_go_is_used_whole():
    usage = add_up([go(hours=3.0, steps=(0, 100, 100), ending="finished")], {"a": "done"})
    assert hours_of(usage) == approx(3, 0, 0)
    assert usage.run_hours == (3.0,)


def test_ten_steps_of_a_hundred_that_were_made_again_are_a_tenth_of_the_first_attempt():
    first = go(hours=10.0, steps=(0, 100, 90))
    second = go(hours=11.0, steps=(90, 200, 200), ending="finished")
    usage = add_up([first, second], {"a": "done"})
    assert hours_of(usage) == approx(9 + 11, 1, 0)
    assert usage.run_hours == approx(20)
    assert usage.num_silent == 1


def test_replayed_steps_are_a_share_of_the_steps_of_that_attempt_alone():
    usage = add_up(
        [
            go(hours=2.0, steps=(0, 50, 50)),
            go(hours=4.0, steps=(50, 100, 60)),  # 40 of its 50 steps
            go(hours=2.0, steps=(60, 100, 100), ending="finished"),
        ],
        {"a": "done"},
    )
    assert hours_of(usage) == approx(2 + 0.8 + 2, 3.2, 0)


def test_an_attempt_that_nothing_rests_on_is_lost():
    abandoned = go(hours=5.0, steps=(0, 70, 0), counts=False, ending="raised")
    usage = add_up([abandoned, go(hours=1.0, steps=(0, 100, 100), ending="finished")], {"a": "done"})
    assert hours_of(usage) == approx(1, 5, 0)


def test_an_attempt_that_made_no_step_is_lost_unless_it_wrote_the_result():
    idle = go(hours=0.5, steps=(100, 100, 100))
    last = go(hours=0.25, steps=(100, 100, 100), ending="finished")
    usage = add_up([go(hours=8.0, steps=(0, 100, 100)), idle, last], {"a": "done"})
    assert hours_of(usage) == approx(8.25, 0.5, 0)


def test_all_of_a_failed_trial_is_lost():
    usage = add_up([go(hours=2.0, steps=(0, 40, 30), ending="failed", counts=False)], {"a": "failed"})
    assert hours_of(usage) == approx(0, 2, 0)
    assert (usage.num_failed, usage.num_open, usage.run_hours) == (1, 0, ())


def test_a_half_done_trial_is_open_up_to_its_checkpoint():
    usage = add_up([go(hours=2.0, steps=(0, 40, 30), counts=False)], {"a": "partial"})
    assert hours_of(usage) == approx(0, 0.5, 1.5)
    assert (usage.num_failed, usage.num_open) == (0, 1)


def test_what_works_now_has_lost_nothing_yet():
    before, now = (go(hours=2.0, steps=(0, 40, 30), counts=False), go(hours=1.0, steps=(30, 50, 30), counts=False))
    assert hours_of(add_up([before, now], {"a": "running"})) == approx(0, 0.5, 2.5)
    assert hours_of(add_up([before, now], {"a": "partial"})) == approx(0, 1.5, 1.5)
    stopped = now._replace(ending="stopped")
    assert hours_of(add_up([before, stopped], {"a": "running"})) == approx(0, 1.5, 1.5)


def test_gpus_count_by_their_number_and_share_and_a_processor_by_its_threads():
    usage = add_up(
        [
            go("a", hours=2.0, steps=(0, 9, 9), ending="finished", num_gpus=4.0, world_size=4),
            go("b", hours=2.0, steps=(0, 9, 9), ending="finished", num_gpus=0.25),
            go("c", hours=2.0, steps=(0, 9, 9), ending="finished", num_gpus=math.nan, world_size=2),
            go("d", hours=2.0, steps=(0, 9, 9), ending="finished", device=CPU, num_gpus=0.0, world_size=2, threads=8),
        ],
        dict.fromkeys("abcd", "done"),
    )
    assert hours_of(usage) == approx(8 + 0.5 + 4, 0, 0)
    assert hours_of(usage, CPU) == approx(32, 0, 0)
    assert [device.unit for device in usage.devices] == ["GPU-hours", "CPU-thread-hours"]
    assert usage.devices[0].per_run == (0.25, 2.0, 4.0)
    assert (usage.num_unshared, usage.run_hours) == (1, (2.0,) * 4)


def test_a_trial_that_moved_is_counted_on_both_devices():
    attempts = [
        go(hours=4.0, steps=(0, 50, 50), device="NVIDIA A100"),
        go(hours=1.0, steps=(50, 100, 100), ending="finished"),
    ]
    usage = add_up(attempts, {"a": "done"})
    assert [(device.device, device.used_hours) for device in usage.devices] == [("NVIDIA A100", 4.0), (GPU, 1.0)]
    assert usage.run_hours == (5.0,)


def test_a_done_trial_with_a_hole_in_its_attempts_has_no_known_length():
    usage = add_up([go(hours=1.0, steps=(50, 100, 100), ending="finished")], {"a": "done", "b": "done"})
    assert (usage.run_hours, usage.num_unseen) == ((), 2)
    assert hours_of(usage) == approx(1, 0, 0)


# --- from storage -------------------------------------------------------------------------------------------------


def test_frames_and_storage_give_the_same_account(tmp_path):
    storage, table = Storage(str(tmp_path)), TableStub(rows=(RowStub("ComplexMix"),), fractions=(EIGHTH,))
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    put_manifest(storage, spec_of("ComplexMix", seed=1))
    put_failed(storage, spec_of("ComplexMix", seed=2))
    ids = [cell.trial_id for cell in table.cells()]
    usage = usage_of(read(storage, table, running=ids[1:2]))
    assert usage == read_usage(storage, ids, running=ids)
    assert usage.devices == (DeviceUsage("cpu", 1 / 3600, 0.0, 0.0, (1.0,)),)
    assert (usage.num_attempts, usage.num_open, usage.num_silent) == (2, 1, 1)


def test_a_trial_of_two_rows_is_paid_once(tmp_path):
    storage = Storage(str(tmp_path))
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)

    class Twice(TableStub):
        def cells(self):
            return super().cells()[:1] * 2

    frames = read(storage, Twice(rows=(RowStub("ComplexMix"),), fractions=(EIGHTH,)))
    assert usage_of(frames).run_hours == (1 / 3600,)


def test_trials_outside_are_those_no_cell_names(tmp_path):
    storage = Storage(str(tmp_path))
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    put_score(storage, "ComplexMix", EIGHTH, 1, 0.5)
    storage.write("trials/.DS_Store", b"")
    mine, other = (spec_of("ComplexMix", seed=seed).trial_id for seed in (0, 1))
    assert trials_outside(storage, {mine}) == [other]
    assert trials_outside(Storage(str(tmp_path / "empty")), set()) == []


# --- in words -----------------------------------------------------------------------------------------------------

THREE = add_up(
    [
        go("a", hours=10.0, steps=(0, 100, 90)),
        go("a", hours=11.0, steps=(90, 200, 200), ending="finished"),
        go("b", hours=30.0, steps=(0, 200, 200), ending="finished"),
        go("c", hours=22.0, steps=(0, 200, 200), ending="finished"),
        go("d", hours=0.5, steps=(0, 5, 0), ending="failed", counts=False),
    ],
    {"a": "done", "b": "done", "c": "done", "d": "failed"},
)


def test_the_statement_names_device_number_hours_per_run_and_in_all():
    text = compute_statement(THREE)
    assert "3 finished runs took 22.0 hours by the clock in the median, from 20.0 to 30.0." in text
    assert "On NVIDIA H100 (1 GPU a run): 72.0 GPU-hours stand in results, 1.5 were lost" in text
    assert "73.5 in all." in text
    assert "5 attempts in all; failed runs: 1, not finished: 0." in text
    assert "1 attempt ended without a word (killed, lost, or working still): hours are a lower bound." in text


def test_the_statement_says_what_is_not_known():
    usage = add_up(
        [go(hours=1.0, steps=(50, 100, 100), ending="finished", num_gpus=math.nan, world_size=2)], {"a": "done"}
    )
    text = compute_statement(usage)
    assert "In 1 attempt the share of a GPU was not recorded: each process counts as one GPU." in text
    assert "The hours of 1 finished run are not known or not known in full." in text
    assert "by the clock" not in text
    assert "without a word" not in text


def test_the_statement_of_a_table_on_a_processor_counts_threads():
    usage = add_up(
        [go(hours=0.5, steps=(0, 9, 9), ending="finished", device=CPU, num_gpus=0.0, threads=2)], {"a": "done"}
    )
    text = compute_statement(usage, outside=THREE)
    assert "1 finished run took 0.5 hours by the clock." in text
    assert "On cpu (x86_64) (2 threads a run): 1 CPU-thread-hours stand in results" in text
    assert "Runs on the same storage that are no part of the table took another 73.5 GPU-hours on NVIDIA H100." in text


def test_nothing_tried_is_said_in_one_sentence():
    assert compute_statement(add_up([], {"a": "missing"})) == "Compute: no attempt has left a record yet."
    assert hours_line(add_up([], {"a": "missing"})) == ""


def test_one_line_says_what_stands_what_is_lost_and_what_is_open():
    assert hours_line(THREE) == "NVIDIA H100: 72.0 GPU-hours in results, 1.5 lost"
    usage = add_up([go(hours=2.0, steps=(0, 40, 30), counts=False)], {"a": "partial"})
    assert hours_line(usage) == "NVIDIA H100: 0 GPU-hours in results, 0.5 lost, 1.5 in trials not done"


@pytest.mark.parametrize(("hours", "text"), [(0.0, "0"), (0.0001, "less than 0.001"), (0.01234, "0.0123")])
def test_small_hours_have_three_digits(hours, text):
    usage = add_up([go(hours=hours, steps=(0, 9, 9), ending="finished")], {"a": "done"})
    assert f": {text} GPU-hours" in hours_line(usage)


def test_many_hours_have_a_mark_for_thousands():
    usage = add_up([go(hours=12345.67, steps=(0, 9, 9), ending="finished")], {"a": "done"})
    assert "12,345.7 GPU-hours" in hours_line(usage)
