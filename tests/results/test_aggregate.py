"""Which evaluation counts, and seeds to mean ± std against values worked out by hand."""

import math

import pytest

from results.aggregate import (
    CellSummary,
    Selection,
    choose_steps,
    find_differences,
    labeled_counts,
    leader,
    mean_and_std,
    selections_of,
    summarize,
)
from results.compute import _stale_by_reason
from tests.results.builders import (
    EIGHTH,
    QUARTER,
    RowStub,
    TableStub,
    judged,
    put_done,
    put_failed,
    put_partial,
    put_score,
    read,
    spec_of,
)
from trainer.storage import Storage

ONE_ROW = TableStub(rows=(RowStub("ComplexMix"),), fractions=(EIGHTH,))
PLACE = ("ComplexMix", "1/8")
LAST = Selection("last", "student")


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "runs"))


def cell(row, *values, expected=None, stale=()):
    mean, std = mean_and_std(values)
    return CellSummary(row, "1/8", mean, std, expected or len(values), values, (), (), (), stale)


def test_std_is_that_of_the_sample():
    # by hand: mean 0.6, squared deviations 0.01 + 0 + 0.01, divided by n - 1 = 2 (by n it would be 0.0816...)
    mean, std = mean_and_std([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6, abs=1e-15)
    assert std == pytest.approx(0.1, abs=1e-15)


def test_one_value_has_no_std_and_none_has_no_mean():
    assert math.isnan(mean_and_std([0.5])[1])
    assert all(math.isnan(value) for value in mean_and_std([]))


def test_summary_carries_sorted_values_and_scores_by_seed(storage):
    for seed, score in enumerate((0.7, 0.5, 0.6)):
        put_score(storage, "ComplexMix", EIGHTH, seed, score)
    summary = summarize(read(storage, ONE_ROW), LAST)[PLACE]
    assert summary.values == (0.5, 0.6, 0.7)
    assert summary.scores == ((0, 0.7), (1, 0.5), (2, 0.6))
    assert (summary.n, summary.expected, summary.state) == (3, 3, "done")
    assert summary.std == pytest.approx(0.1, abs=1e-15)


def test_absent_seeds_are_not_averaged_and_keep_their_state(storage):
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    put_failed(storage, spec_of("ComplexMix", seed=1))
    put_partial(storage, spec_of("ComplexMix", seed=2), judged(10, 0.9))
    summary = summarize(read(storage, ONE_ROW, include_partial=True), LAST)[PLACE]
    assert (summary.mean, summary.n, summary.expected) == (0.5, 1, 3)
    assert summary.absent == ((1, "failed"), (2, "partial"))
    assert summary.state == "failed 1; partial 2"


def test_a_cell_without_any_record_has_no_mean(storage):
    summary = summarize(read(storage, ONE_ROW), LAST)[PLACE]
    assert math.isnan(summary.mean)
    assert summary.state == "missing 0, 1, 2"


def test_a_done_trial_without_a_defined_mean_is_undefined_and_not_zero(storage):
    put_done(storage, spec_of("ComplexMix"), judged(20, None))
    summary = summarize(read(storage, ONE_ROW), LAST)[PLACE]
    assert summary.absent[0] == (0, "undefined")
    assert summary.n == 0


def test_last_takes_the_last_step_and_best_the_largest_mean(storage):
    put_done(storage, spec_of("ComplexMix"), judged(10, 0.7), judged(20, 0.5))
    frames = read(storage, ONE_ROW)
    assert summarize(frames, Selection("last"))[PLACE].mean == 0.5
    assert summarize(frames, Selection("best"))[PLACE].mean == 0.7


def test_best_takes_the_earliest_of_equals_and_never_an_undefined_one(storage):
    records = [judged(5, None), judged(10, 0.7), judged(15, 0.7), judged(20, 0.5)]
    put_partial(storage, spec_of("ComplexMix"), *records, step=20)
    results = read(storage, ONE_ROW, include_partial=True).results
    assert choose_steps(results, "best")["step"].tolist() == [10]
    assert choose_steps(results[::-1], "best")["step"].tolist() == [10]


def test_student_and_teacher_are_chosen_apart(storage):
    records = [judged(10, 0.7), judged(20, 0.5), judged(10, 0.3, "teacher"), judged(20, 0.6, "teacher")]
    put_done(storage, spec_of("ComplexMix"), *records)
    frames = read(storage, ONE_ROW)
    assert summarize(frames, Selection("best", "student"))[PLACE].mean == 0.7
    assert summarize(frames, Selection("best", "teacher"))[PLACE].mean == 0.6


def test_a_row_without_teachers_is_judged_by_its_student(storage):
    put_score(storage, "Supervised", EIGHTH, 0, 0.5)
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    summaries = summarize(read(storage, TableStub()), Selection("last", "teacher"))
    assert summaries["Supervised", "1/8"].mean == 0.5
    assert summaries["ComplexMix", "1/8"].mean == 0.51


def test_a_selection_names_what_it_allows():
    with pytest.raises(ValueError, match="last or best"):
        Selection("median")
    with pytest.raises(ValueError, match="student or teacher"):
        Selection("last", "discriminator")


def test_the_leader_exceeds_the_next_mean_by_more_than_its_spread():
    # the second has mean 0.6 and std 0.1
    assert leader([cell("a", 0.71, 0.71), cell("b", 0.5, 0.6, 0.7)]) == "a"
    assert leader([cell("a", 0.69, 0.69), cell("b", 0.5, 0.6, 0.7)]) is None


def test_the_leader_exceeds_the_next_mean_by_more_than_its_own_spread():
    # the best has mean 0.7 and std 0.1
    assert leader([cell("a", 0.6, 0.7, 0.8), cell("b", 0.59, 0.59)]) == "a"
    assert leader([cell("a", 0.6, 0.7, 0.8), cell("b", 0.61, 0.61)]) is None


def test_no_other_complete_cell_is_within_the_spread_of_the_leader():
    # the third has mean 0.6 and std 0.3: below the second, and yet it reaches the first
    cells = [cell("a", 0.8, 0.8), cell("b", 0.7, 0.7), cell("c", 0.3, 0.6, 0.9)]
    assert leader(cells[:2]) == "a"
    assert leader(cells) is None


def test_a_stale_cell_neither_leads_nor_stands_in_the_way():
    stale = cell("a", 0.9, 0.9, stale=((0, "code"),))
    assert leader([stale, cell("b", 0.6, 0.61), cell("c", 0.5, 0.51)]) == "b"
    assert leader([stale, cell("b", 0.6, 0.61)]) is None


def test_an_incomplete_cell_never_leads_and_one_alone_leads_nothing():
    assert leader([cell("a", 0.9, 0.9, expected=3), cell("b", 0.6, 0.61), cell("c", 0.5, 0.51)]) == "b"
    assert leader([cell("a", 0.9, 0.9), cell("b", 0.6, 0.61, expected=3)]) is None
    assert leader([cell("a", 0.9), cell("b", 0.6)]) is None


def test_labeled_images_are_counted_where_the_manifests_agree(storage):
    for fraction in (EIGHTH, QUARTER):
        put_score(storage, "ComplexMix", fraction, 0, 0.5)
    assert labeled_counts(read(storage, TableStub())) == {"1/8": 30, "1/4": 60}


def test_different_code_behind_the_cells_is_told(storage):
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5)
    assert find_differences(read(storage, ONE_ROW)) == ()
    put_score(storage, "ComplexMix", EIGHTH, 1, 0.5, code="0ther" * 4)
    assert find_differences(read(storage, ONE_ROW)) == (
        "cells differ in code: 0ther0ther0t (1 attempts), c0dec0dec0de (1 attempts)",
    )


OWN = TableStub(rows=(RowStub("ComplexMix"), RowStub("ClassMix", selection="best", reported_network="teacher")))


def test_a_row_may_have_a_selection_of_its_own():
    common, own = selections_of(OWN)
    assert common == LAST
    assert own == {"ClassMix": Selection("best", "teacher")}


def test_a_word_that_is_given_rules_every_row():
    assert selections_of(OWN, policy="best") == (
        Selection("best", "student"),
        {"ClassMix": Selection("best", "teacher")},
    )
    assert selections_of(OWN, policy="last", network="student") == (LAST, {})


def test_each_row_is_summarized_by_its_own_selection(storage):
    for label in ("ComplexMix", "ClassMix"):
        records = [judged(10, 0.7), judged(20, 0.5), judged(10, 0.8, "teacher"), judged(20, 0.6, "teacher")]
        put_done(storage, spec_of(label), *records)
    summaries = summarize(read(storage, OWN), *selections_of(OWN))
    assert summaries["ComplexMix", "1/8"].mean == 0.5
    assert summaries["ClassMix", "1/8"].mean == 0.8


def test_a_change_that_makes_many_cells_stale_names_six_of_them():
    few = [cell(f"row {number}", 0.5, 0.6, stale=((0, "code a -> b"), (1, "code a -> b"))) for number in range(6)]
    (line,) = _stale_by_reason(few)
    assert line == "stale, code a -> b: " + "; ".join(f"row {number}, 1/8, seed 0, 1" for number in range(6))
    (line,) = _stale_by_reason([*few, cell("x", 0.5, stale=((0, "code a -> b"),)), cell("y", 0.5)])
    assert line.endswith("row 5, 1/8, seed 0, 1; and 1 more (`status` lists them)")
