"""Which runs are paired, which tests are made of them, and what may be claimed."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from results.aggregate import Selection, selections_of
from results.comparisons import compare_with_published, compare_with_reference, reference_line
from results.compute import compute_table
from results.significance import holm
from tests.results.builders import EIGHTH, FULL, QUARTER, RowStub, TableStub, put_scores, read
from trainer.storage import Storage

ROWS = tuple(map(RowStub, ("Supervised", "ClassMix", "ComplexMix")))
HALF = Fraction(1, 2)
FIVE = (0, 1, 2, 3, 4)
NOISE = np.random.default_rng(5).normal(scale=0.01, size=(3, 2, 5))


@pytest.fixture
def compute(tmp_path):
    """A table of these scores, by row and fraction; three seeds and rows from Supervised on unless said otherwise."""

    def computed(scores, *, seeds=(0, 1, 2), rows=None, by_policy=False, **options):
        storage = Storage(str(tmp_path / "runs"))
        put_scores(storage, scores)
        table = TableStub(
            rows=rows or tuple(map(RowStub, scores)),
            fractions=tuple(dict.fromkeys(fraction for values in scores.values() for fraction in values)),
            seeds=seeds,
            **{"reference_row": "Supervised", **options},
        )
        selection, by_row = selections_of(table)
        return compute_table(read(storage, table), table, selection, by_row=by_row)

    return computed


def shifted(*differences, base=0.5):
    """Scores of a reference that wanders over the seeds, and those of a row that differs from it by so many points."""
    reference = [base + seed / 64 for seed in range(len(differences))]
    return reference, [value + points / 100 for value, points in zip(reference, differences, strict=True)]


def one_row(compute, *by_fraction, **options):
    """Compare one row that differs so, in points, by fraction and seed."""
    pairs = {f: shifted(*points) for f, points in zip((EIGHTH, QUARTER, HALF), by_fraction, strict=False)}
    scores = {"Supervised": {f: p[0] for f, p in pairs.items()}, "ComplexMix": {f: p[1] for f, p in pairs.items()}}
    (comparison,) = compare_with_reference(compute(scores, seeds=tuple(range(len(by_fraction[0]))), **options))
    return comparison


# --- pairs and seeds ----------------------------------------------------------------------------------------------


def test_runs_are_paired_by_seed_and_not_by_place(compute):
    table = compute({"Supervised": {EIGHTH: [0.5, 0.6, 0.7]}, "ComplexMix": {EIGHTH: [None, 0.61, 0.72]}})
    (comparison,) = compare_with_reference(table)
    assert (comparison.pairs.n, comparison.pairs.declared) == (2, 3)
    assert comparison.pairs.difference == pytest.approx(1.5)
    assert comparison.pairs.p == 0.5


def test_an_incomplete_fraction_keeps_its_pairs_and_loses_its_seed(compute):
    scores = {
        "Supervised": {EIGHTH: [0.5, 0.5, 0.5], QUARTER: [0.6, 0.6, None]},
        "ComplexMix": {EIGHTH: [0.51, 0.52, 0.53], QUARTER: [0.63, 0.64, 0.65]},
    }
    (comparison,) = compare_with_reference(compute(scores))
    assert (comparison.pairs.n, comparison.pairs.declared) == (5, 6)
    assert comparison.pairs.difference == pytest.approx((1 + 2 + 3 + 3 + 4) / 5)
    assert (comparison.seeds.n, comparison.seeds.declared) == (2, 3)
    assert comparison.seeds.difference == pytest.approx(((1 + 3) / 2 + (2 + 4) / 2) / 2)


def test_a_fraction_of_which_nothing_is_done_does_not_take_every_seed(compute):
    scores = {
        "Supervised": {EIGHTH: [0.5, 0.5, 0.5], QUARTER: [0.6, 0.6, 0.6]},
        "ComplexMix": {EIGHTH: [0.51, 0.52, 0.53], QUARTER: [None, None, None]},
    }
    (comparison,) = compare_with_reference(compute(scores))
    assert (comparison.fractions, comparison.seeds.n, comparison.pairs.declared) == (("1/8",), 3, 6)


def test_fractions_that_only_the_reference_has_are_no_pairs(compute):
    scores = {"Supervised": {EIGHTH: [0.5, 0.5, 0.5], FULL: [0.7, 0.7, 0.7]}, "ComplexMix": {EIGHTH: [0.6, 0.7, 0.6]}}
    (comparison,) = compare_with_reference(compute(scores))
    assert (comparison.pairs.n, comparison.pairs.declared, comparison.fractions) == (3, 3, ("1/8",))


def test_only_seeds_that_both_rows_declare_are_pairs(compute):
    table = compute({"Supervised": {EIGHTH: [0.5, 0.5, None]}, "ComplexMix": {EIGHTH: [0.6, 0.6, None]}})
    first, second = table.lines
    fewer = replace(first, cells=(replace(first.cells[0], absent=()),))
    (comparison,) = compare_with_reference(replace(table, lines=(fewer, second)))
    assert (comparison.pairs.n, comparison.pairs.declared) == (2, 2)


def test_both_tests_equal_scipys_on_the_same_differences(compute):
    ours, theirs = 0.55 + NOISE[0], 0.54 + NOISE[1]
    scores = {"Supervised": dict(zip((EIGHTH, QUARTER), theirs.tolist(), strict=True))}
    scores["ComplexMix"] = dict(zip((EIGHTH, QUARTER), ours.tolist(), strict=True))
    (comparison,) = compare_with_reference(compute(scores, seeds=FIVE))
    points = 100 * (ours - theirs)
    flips = stats.permutation_test((points.ravel(),), np.mean, permutation_type="samples", n_resamples=np.inf)
    on_seeds = stats.ttest_1samp(points.mean(axis=0), 0)
    assert comparison.pairs.p == pytest.approx(flips.pvalue, rel=1e-12)
    assert comparison.seeds.p == pytest.approx(on_seeds.pvalue, rel=1e-6)
    interval = (comparison.interval.low, comparison.interval.high)
    assert interval == pytest.approx(tuple(on_seeds.confidence_interval()), rel=1e-6)
    assert comparison.seeds.difference == pytest.approx(points.mean(), rel=1e-6)


def test_nothing_done_in_both_rows_gives_no_test(compute):
    table = compute({"Supervised": {EIGHTH: [0.5, None, None]}, "ComplexMix": {EIGHTH: [None, 0.6, 0.6]}})
    (comparison,) = compare_with_reference(table)
    assert (comparison.pairs.n, comparison.pairs.declared, comparison.pairs.p) == (0, 3, None)
    assert math.isnan(comparison.pairs.difference)
    assert comparison.verdict == "not testable"


# --- several rows -------------------------------------------------------------------------------------------------


def three_rows(compute):
    scores = {
        row.label: {f: (0.5 + 0.01 * i + NOISE[i, j]).tolist() for j, f in enumerate((EIGHTH, QUARTER))}
        for i, row in enumerate(ROWS)
    }
    return compute(scores, seeds=FIVE)


def test_each_kind_of_test_is_adjusted_over_the_rows(compute):
    compared = compare_with_reference(three_rows(compute))
    assert [comparison.row for comparison in compared] == ["ClassMix", "ComplexMix"]
    assert tuple(c.pairs.p_holm for c in compared) == holm([c.pairs.p for c in compared])
    assert tuple(c.seeds.p_holm for c in compared) == holm([c.seeds.p for c in compared])
    assert {c.pairs.family for c in compared} == {c.seeds.family for c in compared} == {2}
    assert [c.pairs.smallest_p_holm for c in compared] == [4 / 2**10, 4 / 2**10]


def test_a_row_of_which_nothing_is_done_counts_in_the_adjustment_all_the_same(compute):
    scores = {
        row.label: {f: NOISE[i, j].tolist() for j, f in enumerate((EIGHTH, QUARTER))} for i, row in enumerate(ROWS)
    }
    scores = {label: {f: [0.5 + value for value in values] for f, values in by.items()} for label, by in scores.items()}
    scores["ComplexMix"] = {EIGHTH: [None] * 5, QUARTER: [None] * 5}
    done, undone = compare_with_reference(compute(scores, seeds=FIVE))
    assert (done.pairs.family, done.seeds.family) == (2, 2)
    assert (done.pairs.p_holm, done.seeds.p_holm) == (min(1, 2 * done.pairs.p), min(1, 2 * done.seeds.p))
    assert (undone.pairs.p_holm, undone.seeds.p_holm, undone.verdict) == (None, None, "not testable")


def test_the_order_of_rows_and_seeds_changes_nothing(compute):
    table = three_rows(compute)
    expected = {comparison.row: comparison for comparison in compare_with_reference(table)}
    for lines in permutations(table.lines):
        turned = [replace(cell, scores=cell.scores[::-1]) for line in lines for cell in line.cells]
        cells = iter(zip(turned[::2], turned[1::2], strict=True))
        again = replace(table, lines=tuple(replace(line, cells=next(cells)) for line in lines))
        assert {comparison.row: comparison for comparison in compare_with_reference(again)} == expected


def test_a_row_that_is_judged_in_another_way_is_not_compared_and_not_counted(compute):
    rows = (ROWS[0], RowStub("ClassMix", selection="best"), ROWS[2])
    scores = {row.label: {EIGHTH: [0.5 + i / 10, 0.6, 0.7]} for i, row in enumerate(rows)}
    best, last = compare_with_reference(compute(scores, rows=rows))
    assert (best.verdict, best.other_selection) == ("not compared", Selection("best", "student"))
    assert (best.pairs.n, best.pairs.p) == (0, None)
    assert last.pairs.family == 1


def test_rows_that_share_the_references_own_selection_are_compared(compute):
    rows = (RowStub("Supervised", selection="best"), RowStub("ComplexMix", selection="best"))
    scores = {"Supervised": {EIGHTH: [0.5, 0.6, 0.7]}, "ComplexMix": {EIGHTH: [0.6, 0.7, 0.9]}}
    (comparison,) = compare_with_reference(compute(scores, rows=rows))
    assert comparison.pairs.n == 3


def test_another_evaluation_size_is_carried_along(compute):
    table = three_rows(compute)
    first, second, third = table.lines
    changed = replace(table, lines=(first, replace(second, eval_sizes=("513x1025",)), third))
    assert [c.sizes for c in compare_with_reference(changed)] == [("513x1025", "64x128"), None]


def test_the_reference_is_the_tables_or_the_one_given(compute):
    table = three_rows(compute)
    assert reference_line(table).label == "Supervised"
    assert [c.row for c in compare_with_reference(table, "classmix")] == ["Supervised", "ComplexMix"]
    with pytest.raises(ValueError, match="reference row 'CutMix': table stub has the rows Supervised, ClassMix, Com"):
        compare_with_reference(table, "CutMix")


@pytest.mark.parametrize("name", [None, "DeepLab-V2"])
def test_a_table_without_its_reference_row_compares_nothing(compute, name):
    assert compare_with_reference(replace(three_rows(compute), reference_row=name)) == ()


# --- claims -------------------------------------------------------------------------------------------------------


def test_a_difference_that_both_tests_show_is_claimed_with_its_sign(compute):
    points = (1.0, 1.2, 0.9, 1.1, 1.0)
    assert one_row(compute, points, points).verdict == "higher"
    assert one_row(compute, [-p for p in points], [-p for p in points]).verdict == "lower"


def test_noise_is_not_claimed(compute):
    assert one_row(compute, (1.0, -1.2, 0.9, -0.6, 0.1), (0.5, -0.7, -0.9, 1.1, 0.1)).verdict == "not shown"


def test_where_the_tests_disagree_nothing_is_claimed(compute):
    # ten pairs: eight of +1.0 and two of -0.6 are rarely that large (flips), but five means hardly show it (t)
    comparison = one_row(compute, (1.0, 1.1, 0.9, 1.0, -0.6), (1.1, 1.0, 1.0, 0.9, -0.5))
    assert comparison.pairs.p_holm <= 0.05 < comparison.seeds.p_holm
    assert comparison.verdict == "disagree"


def test_tests_that_point_in_two_directions_disagree(compute):
    comparison = one_row(compute, (1.0, 1.2, 0.9, 1.1, 1.0), (1.0, 1.2, 0.9, 1.1, 1.0))
    opposed = replace(comparison, seeds=replace(comparison.seeds, difference=-1.0))
    assert opposed.verdict == "disagree"


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_one_or_two_seeds_never_claim_anything(compute, num_seeds):
    points = [(value, value + 0.1)[:num_seeds] for value in (10.0, 10.1, 10.2)]
    assert one_row(compute, *points).verdict == "not testable"


def test_two_seeds_have_p_values_that_would_have_sufficed(compute):
    comparison = one_row(compute, (10.0, 10.1), (10.1, 10.2), (10.2, 10.3))
    assert comparison.pairs.p_holm < 0.05
    assert comparison.seeds.p_holm < 0.05


def test_five_pairs_never_claim_anything_however_large_the_difference(compute):
    comparison = one_row(compute, (20.0, 20.1, 19.9, 20.0, 20.2))
    assert comparison.pairs.p == comparison.pairs.smallest_p == 0.0625
    assert comparison.seeds.p < 1e-6
    assert comparison.verdict == "not testable"


def test_pairs_that_suffice_for_one_row_may_not_for_two(compute):
    points = [(10.0, 10.1, 10.2), (10.0, 10.1, 10.3)]
    assert one_row(compute, *points).verdict == "higher"
    reference, better = shifted(*points[0])
    scores = {
        label: {EIGHTH: values, QUARTER: values}
        for label, values in (("Supervised", reference), ("ClassMix", better), ("ComplexMix", better))
    }
    assert [c.verdict for c in compare_with_reference(compute(scores))] == ["not testable", "not testable"]


def test_differences_without_any_spread_claim_nothing(compute):
    comparison = one_row(compute, (1.0,) * 5, (1.0,) * 5)
    assert (comparison.seeds.p, comparison.interval, comparison.effect) == (None, None, None)
    assert comparison.verdict == "not testable"


def test_equal_rows_have_no_pair_to_flip(compute):
    comparison = one_row(compute, (0.0,) * 5, (0.0,) * 5)
    assert (comparison.pairs.p, comparison.pairs.smallest_p, comparison.verdict) == (1.0, 1.0, "not testable")


# --- published values ---------------------------------------------------------------------------------------------


def published(compute, scores, margin=0.5, **options):
    return compare_with_published(compute(scores, published="complexmix_table1", **options), margin)


def test_a_value_without_known_noise_is_a_fixed_number(compute):
    values = [0.5484, 0.5484 + 1e-3, 0.5484 - 1e-3]  # DeepLab-V2 at 1/8 is printed as 54.84
    (cell,) = published(compute, {"Supervised": {EIGHTH: values}})
    assert (cell.published, cell.is_fixed, cell.n, cell.verdict) == (54.84, True, 3, "equivalent")
    assert cell.difference == pytest.approx(0.0, abs=1e-9)
    assert cell.p == pytest.approx(0.5 - math.sqrt(75 / 77) / 2, rel=1e-6)


def test_a_value_with_std_and_runs_has_noise_of_its_own(compute):
    values = [0.6225, 0.6225 + 1e-3, 0.6225 - 1e-3]  # ComplexMix at 1/8 is printed as 62.25 ± 1.22, of five runs
    (cell,) = published(compute, {"ComplexMix": {EIGHTH: values}})
    sample = np.array([-1.0, -1.0, 0.0, 1.0, 1.0]) * 1.22 + 62.25
    expected = stats.ttest_ind(np.array(values) * 100, sample - 0.5, equal_var=False, alternative="greater").pvalue
    assert (cell.is_fixed, cell.verdict) == (False, "undecided")
    assert cell.p == pytest.approx(expected, rel=1e-6)


def test_a_difference_that_is_shown_may_be_within_the_margin_or_not(compute):
    near, far = ([0.5484 + shift + i * 1e-4 for i in range(5)] for shift in (0.002, 0.02))
    (cell,) = published(compute, {"Supervised": {EIGHTH: near}}, seeds=FIVE)
    assert cell.p_different < 0.05
    assert cell.verdict == "equivalent"
    (cell,) = published(compute, {"Supervised": {EIGHTH: far}}, seeds=FIVE)
    assert cell.verdict == "different"


def test_the_margin_decides_what_is_equivalent(compute):
    scores = {"Supervised": {EIGHTH: [0.5584 + i * 1e-4 for i in range(3)]}}
    assert [published(compute, scores, margin)[0].verdict for margin in (0.5, 2.0)] == ["different", "equivalent"]


@pytest.mark.parametrize("values", [[0.5484, None, None], [0.5484, 0.5485, None], [None] * 3, [0.5484] * 3])
def test_too_few_seeds_or_no_spread_test_nothing(compute, values):
    (cell,) = published(compute, {"Supervised": {EIGHTH: values}})
    assert (cell.verdict, cell.expected) == ("not testable", 3)


def test_cells_without_a_published_value_are_not_tested(compute):
    scores = {"Supervised": {EIGHTH: [0.5] * 3, FULL: [0.5] * 3}, "Unknown": {EIGHTH: [0.5] * 3}}
    places = [(cell.row, cell.label_fraction) for cell in published(compute, scores)]
    assert places == [("Supervised", "1/8"), ("Supervised", "1")]
    assert compare_with_published(compute(scores)) == ()
    assert published(compute, scores, is_demonstration=True) == ()


@pytest.mark.parametrize("margin", [0.0, -0.5, math.nan, math.inf])
def test_a_margin_is_a_number_of_points_above_0(compute, margin):
    with pytest.raises(ValueError, match="points of mean IoU above 0"):
        compare_with_published(compute({"Supervised": {EIGHTH: [0.5] * 3}}), margin)
