"""Intervals and tests against scipy on random data, against cases worked out by hand, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from results.significance import (
    EXACT_PAIRS,
    Target,
    equivalence_p,
    holm,
    mean_interval,
    mean_p,
    sign_flip_p,
    smallest_sign_flip_p,
    standardized_effect,
)

NUM_DRAWS = 20_000


def draws(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- intervals ----------------------------------------------------------------------------------------------------


def test_the_interval_of_three_values_by_hand():
    # mean 2, std 1, standard error 1 / sqrt(3); the 97.5 % point of t with 2 degrees of freedom is 4.302653
    interval = mean_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n, interval.confidence) == (2.0, 3, 0.95)
    assert interval.high - 2 == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert 2 - interval.low == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_intervals_equal_those_of_scipy(confidence):
    for values in (draws(n, seed=n) for n in range(2, 30)):
        interval = mean_interval(values.tolist(), confidence)
        expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
        assert (interval.low, interval.high) == pytest.approx(tuple(expected), rel=1e-12)


def covers_as_promised(lows, highs):
    """Whether intervals of the mean of draws around 0 cover it in 95 % of cases, to 0.6 %."""
    return abs(np.mean((lows <= 0) & (highs >= 0)) - 0.95) < 0.006


def test_intervals_of_five_values_cover_the_mean_in_95_of_100_cases():
    found = [mean_interval(values) for values in draws(NUM_DRAWS, 5).tolist()]
    assert covers_as_promised(np.array([i.low for i in found]), np.array([i.high for i in found]))


def test_neither_standard_errors_nor_a_bootstrap_would_cover_it():
    values = draws(NUM_DRAWS, 5)
    half = 1.96 * values.std(axis=1, ddof=1) / math.sqrt(5)
    assert not covers_as_promised(values.mean(axis=1) - half, values.mean(axis=1) + half)
    drawn = np.random.default_rng(1).integers(5, size=(1000, 5))
    means = values[:2000, drawn].mean(axis=2)
    assert not covers_as_promised(*np.percentile(means, (2.5, 97.5), axis=1))


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5]])
def test_without_a_spread_there_is_no_interval_no_p_and_no_effect(values):
    assert mean_interval(values) is None
    assert mean_p(values, Target(0.0)) is None
    assert equivalence_p(values, Target(0.5), 1.0) is None
    assert standardized_effect(values) is None


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], confidence)


def test_the_effect_is_freed_of_its_bias():
    # by hand for n = 5: gamma(2) / (sqrt(2) gamma(1.5)) = 1 / (sqrt(2) sqrt(pi) / 2) = 0.797885
    assert standardized_effect([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(3 / math.sqrt(2.5) * 0.7978845608, rel=1e-9)
    values = draws(NUM_DRAWS, 5) + 1.0
    assert np.mean([standardized_effect(each) for each in values.tolist()]) == pytest.approx(1.0, abs=0.03)


def test_two_values_have_no_effect_size():
    assert standardized_effect([1.0, 2.0]) is None


# --- equivalence --------------------------------------------------------------------------------------------------


def test_equivalence_of_three_values_by_hand():
    # mean 60, standard error 0.1 / sqrt(3): t = 0.5 sqrt(3) / 0.1 = sqrt(75) at both bounds. The upper tail of t with 2
    # degrees of freedom is 1/2 - t / (2 sqrt(2 + t^2)) = 1/2 - sqrt(75 / 77) / 2
    p = equivalence_p([59.9, 60.0, 60.1], Target(60.0), 0.5)
    assert p == pytest.approx(0.5 - math.sqrt(75 / 77) / 2, rel=1e-9)


@pytest.mark.parametrize("published", [59.7, 60.3])
def test_the_nearer_bound_decides(published):
    # the nearer bound is 0.2 away: t = 0.2 sqrt(3) / 0.1 = sqrt(12)
    p = equivalence_p([59.9, 60.0, 60.1], Target(published), 0.5)
    assert p == pytest.approx(0.5 - math.sqrt(12 / 14) / 2, rel=1e-9)


def test_a_mean_outside_the_margin_is_never_equivalent():
    assert equivalence_p([60.9, 61.0, 61.1], Target(60.0), 0.5) > 0.5


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_a_published_spread_is_counted_as_by_welch(alternative):
    for n, m in itertools.product((3, 5, 8), repeat=2):
        ours, theirs = draws(n, seed=n), draws(m, seed=m + 100) * 2
        target = Target(theirs.mean(), theirs.std(ddof=1), m)
        expected = stats.ttest_ind(ours, theirs + 0.3, equal_var=False, alternative=alternative).pvalue
        assert mean_p(ours.tolist(), target, shift=0.3, alternative=alternative) == pytest.approx(expected, rel=1e-9)


def test_counting_the_published_noise_makes_equivalence_harder():
    values = [59.9, 60.0, 60.1, 60.05, 59.95]
    assert equivalence_p(values, Target(60.0, 0.5, 5), 0.5) > 10 * equivalence_p(values, Target(60.0), 0.5)


@pytest.mark.parametrize("target", [Target(60.0, 0.5), Target(60.0, None, 5), Target(60.0, 0.5, 1)])
def test_a_mean_whose_noise_is_not_known_is_fixed(target):
    values = [59.8, 60.0, 60.3]
    assert target.is_fixed
    assert equivalence_p(values, target, 0.5) == equivalence_p(values, Target(60.0), 0.5)


def test_p_of_a_mean_equals_that_of_scipy_in_any_order():
    for values in (draws(n, seed=n) for n in range(2, 30)):
        expected = stats.ttest_1samp(values, 0.4).pvalue
        assert mean_p(values.tolist(), Target(0.4)) == pytest.approx(expected, rel=1e-12)
        assert mean_p(values[::-1].tolist(), Target(0.4)) == mean_p(values.tolist(), Target(0.4))


# --- sign flips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ((1, 2, 3), 2 / 8),  # 6 and -6
        ((-1, 2, 3), 4 / 8),  # 6, 4, -4, -6
        ((1, -2, 3), 6 / 8),  # 6, 4, 2 and 0 twice: all but the two zeros reach 2
        ((1, 1), 2 / 4),
        ((1, -1), 1.0),
        ((0, 0), 1.0),
        ((5,), 1.0),
        ((2, 0, 1, 3, 0), 2 / 8),  # zeros have no sign
    ],
)
def test_flips_of_a_few_pairs_by_hand(differences, p):
    assert sign_flip_p(differences) == p


def test_flips_equal_scipys_permutation_test():
    for n in range(2, 10):
        values = np.rint(draws(n, seed=n) * 1000 + 300).astype(int)
        found = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(values.tolist()) == pytest.approx(found.pvalue, rel=1e-12)


def signed_ranks(n):
    """1 to n with signs: their flips are what Wilcoxon's exact test counts, which scipy does by other means."""
    signs = np.where(draws(n, seed=n) > -0.3, 1, -1)
    ranks = np.arange(1, n + 1) * signs
    return ranks.tolist(), float(stats.wilcoxon(ranks, method="exact").pvalue)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 31, EXACT_PAIRS])
def test_flips_of_ranks_equal_wilcoxons_exact_test(n):
    ranks, expected = signed_ranks(n)
    assert sign_flip_p(ranks) == pytest.approx(expected, rel=1e-9)
    assert sign_flip_p([-rank for rank in reversed(ranks)]) == sign_flip_p(ranks)


@pytest.mark.parametrize("n", [EXACT_PAIRS + 1, 60, 100])
def test_more_pairs_give_a_p_that_is_hardly_too_large_and_never_too_small(n):
    ranks, expected = signed_ranks(n)
    assert expected * (1 - 1e-12) <= sign_flip_p([10**9 * rank for rank in ranks]) <= 1.005 * expected


def test_the_grid_agrees_with_counting_on_differences_of_any_size(monkeypatch):
    differences = [np.rint((draws(n, seed=n) + 0.3) * 1e12).astype(int).tolist() for n in (2, 7, 20, 30)]
    counted = [sign_flip_p(each) for each in differences]
    monkeypatch.setattr("results.significance.EXACT_PAIRS", 0)
    for each, p in zip(differences, counted, strict=True):
        assert p * (1 - 1e-12) <= sign_flip_p(each) <= 1.002 * p


def test_fractions_that_share_a_seed_fool_the_flips_and_not_the_seed_means():
    """No difference, five seeds, four fractions of which each shares half of its noise with the others of its seed."""
    noise = draws(2000, 4, 5) + draws(2000, 1, 5, seed=1)
    units = np.rint(noise.reshape(2000, -1) * 1e9).astype(int).tolist()
    by_flips = np.array([sign_flip_p(each) <= 0.05 for each in units])
    by_means = np.array([mean_p(each, Target(0.0)) <= 0.05 for each in noise.mean(axis=1).tolist()])
    assert by_flips.mean() > 0.1
    assert by_means.mean() == pytest.approx(0.05, abs=0.015)
    assert (by_flips & by_means).mean() < 0.05


def test_the_smallest_p_is_that_of_equal_signs():
    assert smallest_sign_flip_p([3, -1, 2, 5, 4]) == sign_flip_p([3, 1, 2, 5, 4]) == 0.0625
    assert smallest_sign_flip_p([3, 0, 2]) == 0.5
    assert smallest_sign_flip_p([0]) == smallest_sign_flip_p([]) == 1.0


# --- holm ---------------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    # 3 x 0.01; 2 x 0.03; 1 x 0.04 is less than the one before, and so is raised to it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.7, 0.9]) == (1.0, 1.0)
    assert holm([0.02]) == (0.02,)
    assert holm([]) == ()


def test_holm_equals_closed_testing():
    """A row is claimed where every set of rows that holds it is refused by Bonferroni: the reason why Holm is right."""
    ps = np.random.default_rng(3).uniform(size=6) ** 3
    sets = [chosen for size in range(1, 7) for chosen in itertools.combinations(range(6), size)]
    closed = [max(min(1.0, len(s) * min(ps[list(s)])) for s in sets if row in s) for row in range(6)]
    assert holm(ps.tolist()) == pytest.approx(closed)


def test_holm_does_not_depend_on_the_order():
    ps = [0.04, 0.01, 0.01, 0.3]
    for order in itertools.permutations(range(4)):
        assert holm([ps[i] for i in order]) == tuple(holm(ps)[i] for i in order)
