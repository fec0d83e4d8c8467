"""How long what is missing would take: from finished cells, else from FLOP, and what is not known stays unknown."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import TABLES
from experiments.table import find_table
from orchestrator.forecast import (
    Length,
    RowForecast,
    Span,
    by_row,
    finishing_time,
    forecast,
    lengths,
    total,
    waiting_trials,
)
from orchestrator.order import Waiting
from orchestrator.plan import PlannedCell, survey
from tests.results.builders import ATTEMPT, change_sealed, put_manifest
from trainer.reading import TrialState
from trainer.records import attempt_path
from trainer.spec import TrialSpec
from trainer.storage import Storage

TABLE1 = find_table("table1", TABLES)
DEMO = find_table("demo", TABLES)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def counts(_spec: TrialSpec) -> tuple[int, int]:
    return 2975, 500


def finished(item: PlannedCell, storage: Storage, *, seconds: float, device: str, ranks: int = 1) -> PlannedCell:
    """A cell that is done, with the manifest of its attempt."""
    put_manifest(storage, item.cell.spec)
    path = attempt_path(item.cell.trial_id, ATTEMPT, "manifest.json")
    change_sealed(storage, path, lambda body: body.update(device=device, world_size=ranks))
    done = TrialState("done", step=item.cell.spec.num_steps)
    return replace(item, trial=done, wall_seconds=seconds, attempt=ATTEMPT)


def of_row(lines: Sequence[RowForecast], row: str) -> RowForecast:
    return next(line for line in lines if line.row == row)


def test_without_a_finished_cell_hours_come_from_flop(storage: Storage) -> None:
    line = of_row(forecast(survey(TABLE1, storage), storage, counts), "ClassMix")
    assert line.flop is not None
    assert line.num_trials == 20
    fast, slow = line.flop / 100e12 / 3600, line.flop / 60e12 / 3600
    assert line.hours is not None
    assert line.hours.ends == pytest.approx((fast, (fast + slow) / 2, slow))
    assert line.basis == "FLOP at the assumed rate"


def test_finished_cells_of_the_row_are_what_counts(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix"), storage)
    for index, seconds in enumerate((30.0, 90.0, 60.0)):
        planned[index] = finished(planned[index], storage, seconds=seconds, device="H100")
    (line,) = forecast(planned, storage, counts)
    assert (line.num_trials, line.basis) == (1, "the median of 3 finished cells on H100")
    assert line.hours is not None
    assert line.hours.ends == pytest.approx((30 / 3600, 60 / 3600, 90 / 3600))


def test_seconds_are_scaled_by_steps_and_count_every_device(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix"), storage)
    planned[0] = finished(planned[0], storage, seconds=60.0, device="H100", ranks=2)
    planned[1] = replace(planned[1], trial=TrialState("partial", step=150))
    (line,) = forecast(planned, storage, counts)
    assert line.basis == "1 finished cell on H100"
    assert line.hours is not None
    assert line.hours.ends == pytest.approx((120 * 2.5 / 3600,) * 3)


def test_of_two_devices_the_commoner_one_speaks(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix"), storage)
    for index, device in enumerate(("A100", "H100", "H100")):
        planned[index] = finished(planned[index], storage, seconds=10.0 * (index + 1), device=device)
    assert forecast(planned, storage, counts)[0].basis == "the median of 2 finished cells on H100"


def test_a_network_without_a_known_rate_has_no_hours(storage: Storage) -> None:
    line = forecast(survey(DEMO, storage), storage, counts)[0]
    assert line.flop is not None
    assert line.hours is None
    assert line.basis == "unknown until a cell is done"


def test_an_unknown_network_has_no_flop(storage: Storage) -> None:
    table = DEMO.changed(["network.kind=timm", "network.backbone=resnet18"])
    assert {(line.flop, line.hours) for line in forecast(survey(table, storage), storage, counts)} == {(None, None)}


def test_what_is_done_or_failed_is_not_missing(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", seeds="0"), storage)
    planned = [replace(planned[0], trial=TrialState("failed")), finished(planned[1], storage, seconds=1, device="cpu")]
    assert forecast(planned, storage, counts) == []


def test_a_trial_that_stands_in_two_rows_counts_once(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", seeds="0"), storage)
    twice = [*planned, *(replace(item, cell=replace(item.cell, row="Again")) for item in planned)]
    assert [line.row for line in forecast(twice, storage, counts)] == ["ClassMix"]


def test_a_row_without_a_finished_cell_goes_by_flop_at_the_rate_of_the_others(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="Supervised,ClassMix", seeds="0"), storage)
    flops = {name: length.flop for name, length in lengths(planned, storage, counts).items()}
    rows = {item.cell.row: item.cell.trial_id for item in planned}
    of = [item.cell.row for item in planned].index("Supervised")
    planned[of] = finished(planned[of], storage, seconds=60.0, device="cpu")
    line = of_row(forecast(planned, storage, counts), "ClassMix")
    per_flop = 60 / flops[planned[of].cell.trial_id]
    others = [flops[i.cell.trial_id] for i in planned if i.cell.row == "ClassMix"]
    assert rows["ClassMix"] in flops
    assert line.basis == "FLOP, at the rate of 1 finished cell on cpu"
    assert line.hours is not None
    assert line.hours.expected == pytest.approx(sum(others) * per_flop / 3600)


def test_sums_keep_their_ends() -> None:
    assert total([Span(1, 2, 4), Span(10, 20, 40)]) == Span(11, 22, 44)


def test_a_finishing_time_is_that_of_the_drivers_own_order(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix"), storage)[:3]
    known = {
        item.cell.trial_id: Length(None, Span(s / 2, s, 2 * s), "")
        for item, s in zip(planned, (2.0, 3.0, 2.0), strict=True)
    }
    assert finishing_time(planned, known, [2], 1) == Span(2.0, 4.0, 8.0)  # 3 beside 2 and 2
    assert finishing_time(planned, known, [4], 2) == Span(1.0, 2.0, 4.0)  # two to a trial, each in half the time
    known[planned[0].cell.trial_id] = Length(None, None, "")
    assert finishing_time(planned, known, [2], 1) is None


def test_what_is_done_needs_no_time(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", seeds="0"), storage)
    done = [finished(item, storage, seconds=1, device="cpu") for item in planned]
    assert finishing_time(done, lengths(done, storage, counts), [2], 1) is None


def test_a_queue_knows_layers_and_which_lengths_only_compare(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", fractions="1/4"), storage)
    planned[0] = finished(planned[0], storage, seconds=1, device="cpu")
    later = planned[1].cell.trial_id
    known = {later: Length(7.0, Span(1, 8, 9), "")}
    assert waiting_trials(planned, known, workers=2) == [Waiting(later, 2, 4.0, layer=1)]
    assert waiting_trials(planned, {later: Length(7.0, None, "")}, 1) == [Waiting(later, 1, 7.0, 1, is_known=False)]
    steps = float(planned[1].cell.spec.num_steps)
    assert waiting_trials(planned, {later: Length(None, None, "")}, 1)[0].seconds == steps


def test_failed_cells_have_a_length_for_whoever_tries_them_again_and_none_in_the_forecast(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", fractions="1/4", seeds="0"), storage)
    failed = [replace(planned[0], trial=TrialState("failed"))]
    assert set(lengths(failed, storage, counts)) == {planned[0].cell.trial_id}
    assert forecast(failed, storage, counts) == []


def test_a_row_of_which_one_trial_is_unknown_has_no_sum(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", seeds="0"), storage)
    known = {item.cell.trial_id: Length(7.0, Span(1, 2, 3), "") for item in planned}
    known[planned[1].cell.trial_id] = Length(None, None, "")
    assert [(line.flop, line.hours) for line in by_row(planned, known)] == [(None, None)]


def test_what_a_live_driver_trains_is_missing_too_and_comes_before_the_other_seeds(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", fractions="1/4"), storage)
    planned[0] = replace(planned[0], holder="somebody")
    known = {item.cell.trial_id: Length(7.0, Span(1, 8, 9), "") for item in planned}
    assert [line.num_trials for line in by_row(planned, known)] == [2]
    others = {planned[1].cell.trial_id: known[planned[1].cell.trial_id]}
    assert [trial.layer for trial in waiting_trials(planned, others, 1)] == [1]


def test_the_median_speaks_and_not_the_mean(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix"), storage)
    for index, seconds in enumerate((30.0, 600.0, 60.0)):
        planned[index] = finished(planned[index], storage, seconds=seconds, device="H100")
    (line,) = forecast(planned, storage, counts)
    assert line.hours is not None
    assert line.hours.ends == pytest.approx((30 / 3600, 60 / 3600, 600 / 3600))


def test_what_is_done_of_a_partial_trial_counts_neither_in_flop_nor_for_a_probe(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", fractions="1/4", seeds="0"), storage)
    whole = lengths(planned, storage, counts)[planned[0].cell.trial_id].flop
    asked = []

    def probed(_spec: TrialSpec, first_step: int) -> tuple[Span, str]:
        asked.append(first_step)
        return Span(1.0, 2.0, 3.0), "probe"

    partial = [replace(planned[0], trial=TrialState("partial", step=planned[0].cell.spec.num_steps // 4))]
    found = lengths(partial, storage, counts, probed=probed)[planned[0].cell.trial_id]
    assert whole is not None
    assert found.flop == pytest.approx(0.75 * whole)
    assert asked == [planned[0].cell.spec.num_steps // 4]


def test_on_what_a_trial_ran_is_asked_of_storage_only_where_nobody_knows(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="ClassMix", fractions="1/4"), storage)
    done = finished(planned[0], storage, seconds=30.0, device="A100")
    storage.remove(attempt_path(done.cell.trial_id, ATTEMPT, "manifest.json"))
    planned[0] = done
    other = planned[1].cell.trial_id
    known = lengths(planned, storage, counts, {done.cell.trial_id: ("H100", 2)})[other]
    assert known.basis == "1 finished cell on H100"
    assert known.seconds is not None
    assert known.seconds.expected == pytest.approx(60.0)
    unknown = lengths(planned, storage, counts)[other]
    assert unknown.basis == "1 finished cell on an unknown device"
    assert unknown.seconds is not None
    assert unknown.seconds.expected == pytest.approx(30.0)
