"""Points of plots: seeds brought together as a person would on paper."""

import math

import pandas as pd
import pytest

from results.series import class_scores, learning_series, score_series, share_series
from tests.results.builders import QUARTER, RowStub, TableStub, judged, put_done, put_partial, read, spec_of
from tests.results.report.small_report import TABLE, computed, curves, fill
from trainer.storage import Storage


@pytest.fixture
def storage(tmp_path) -> Storage:
    filled = Storage(str(tmp_path))
    fill(filled)
    return filled


def test_scores_are_percent_with_the_spread_over_seeds(storage: Storage) -> None:
    supervised = score_series(computed(storage)[0])[0]
    eighth, quarter = supervised.points
    assert (supervised.row, supervised.kind) == ("Supervised", "ours")
    assert (eighth.x, eighth.n, quarter.x, quarter.n) == (0.125, 2, 0.25, 1)
    assert (eighth.mean, eighth.std) == pytest.approx((45.0, math.sqrt(50)))  # 40 and 50
    assert quarter.mean == pytest.approx(50.0)
    assert math.isnan(quarter.std)


def test_published_scores_stand_beside_ours_unless_this_is_a_demonstration(storage: Storage) -> None:
    published = [one for one in score_series(computed(storage)[0]) if one.kind == "published"]
    assert [(one.row, [point.mean for point in one.points]) for one in published] == [
        ("Supervised", [54.84, 60.08]),
        ("ClassMix", [61.35, 63.63]),
        ("ComplexMix", [62.25, 64.07]),
    ]
    assert [point.std for point in published[2].points] == [1.22, 0.46]
    demonstration = TableStub(**{**TABLE.__dict__, "is_demonstration": True})
    assert {one.kind for one in score_series(computed(storage, demonstration)[0])} == {"ours"}


def test_points_are_in_order_of_the_label_fraction(storage: Storage) -> None:
    turned = TableStub(**{**TABLE.__dict__, "fractions": TABLE.fractions[::-1]})
    for one in score_series(computed(storage, turned)[0]):
        assert [point.x for point in one.points] == sorted(point.x for point in one.points)


def test_learning_joins_the_seeds_of_each_network_at_each_step(tmp_path) -> None:
    storage, table = Storage(str(tmp_path)), TableStub(rows=(RowStub("ClassMix"),), seeds=(0, 1, 2))
    for seed, last in ((0, 0.3), (1, 0.5)):
        put_done(storage, spec_of("ClassMix", seed=seed), judged(20, last), judged(20, last + 0.1, "teacher"))
    student, teacher = learning_series(read(storage, table))
    assert (student.kind, teacher.kind, student.label_fraction) == ("student", "teacher", "1/8")
    assert [(point.x, point.n) for point in student.points] == [(10, 2), (20, 2)]
    assert [point.mean for point in student.points] == pytest.approx([25.0, 40.0])
    assert student.points[1].std == pytest.approx(math.sqrt(200))
    assert teacher.points[1].mean == pytest.approx(50.0)


def test_nothing_is_learnt_from_trials_that_are_not_done(storage: Storage) -> None:
    put_partial(storage, spec_of("Supervised", QUARTER, 1), judged(10, 0.9), step=10)
    series = learning_series(read(storage, TABLE, include_partial=True))
    quarter = next(one for one in series if (one.row, one.label_fraction) == ("Supervised", "1/4"))
    assert [point.n for point in quarter.points] == [1, 1]


def test_only_shares_are_taken_from_the_training_scalars() -> None:
    series = share_series(curves())
    assert {one.kind for one in series} == {"confident_fraction", "mask_area"}
    assert [point.mean for point in series[0].points] == pytest.approx([25.0, 45.0, 65.0])
    assert series[0].points[0].std == pytest.approx(math.sqrt(50))
    assert share_series(curves().iloc[:0]) == ()


def test_long_curves_are_means_over_stretches_of_steps() -> None:
    lines = [("ClassMix", "1/8", seed, step, "mask_area", step / 1000) for seed in (0, 1) for step in range(1, 251)]
    frame = pd.DataFrame(lines, columns=["row", "label_fraction", "seed", "step", "name", "value"])
    (series,) = share_series(frame)
    assert len(series.points) == 84
    assert [point.x for point in series.points[:2]] == [3, 6]
    assert [point.mean for point in series.points[:2]] == pytest.approx([0.2, 0.5])
    assert (series.points[-1].x, series.points[-1].mean, series.points[-1].n) == (250, pytest.approx(25.0), 2)


def test_classes_are_means_over_the_seeds_that_have_them(storage: Storage) -> None:
    eighth, quarter = class_scores(computed(storage)[0])
    assert (eighth.label_fraction, eighth.classes) == ("1/8", ("road", "sky", "car"))
    assert eighth.iou["Supervised"] == pytest.approx((0.6, 0.5, 0.25))
    assert eighth.iou["ClassMix"] == pytest.approx((0.7, 0.55, 0.5))
    assert set(quarter.iou) == {"Supervised", "ClassMix"}


def test_the_gain_of_a_class_pairs_seeds(storage: Storage) -> None:
    eighth, quarter = class_scores(computed(storage)[0])
    # car: only seed 1 has it in both rows, 0.5 - 0.2; the difference of the means would be 0.25
    assert eighth.gain["ClassMix"] == pytest.approx((0.1, 0.05, 0.3))
    # only seed 0 is done in both rows
    assert quarter.gain["ClassMix"] == pytest.approx((0.1, 0.1, 0.1))
    assert "Supervised" not in eighth.gain


def test_without_a_reference_row_there_is_no_gain(storage: Storage) -> None:
    for name in (None, "Gone"):
        table = TableStub(**{**TABLE.__dict__, "reference_row": name})
        assert all(one.gain == {} and one.reference is None for one in class_scores(computed(storage, table)[0]))


def test_classes_are_those_of_the_network_that_counts(tmp_path) -> None:
    storage, table = Storage(str(tmp_path)), TableStub(rows=(RowStub("ClassMix"),), seeds=(0,))
    put_done(storage, spec_of("ClassMix"), judged(20, 0.3), judged(20, 0.9, "teacher"))
    (scores,) = class_scores(computed(storage, table)[0])
    assert scores.iou["ClassMix"] == pytest.approx((0.3, 0.3, 0.3))
