"""Paired differences against values worked out by hand."""

import math

import pytest

from results.aggregate import CellSummary, mean_and_std
from results.differences import paired_difference


def cell(scores, *, expected=None, stale=()):
    values = tuple(sorted(scores.values()))
    mean, std = mean_and_std(values)
    expected = len(values) if expected is None else expected
    return CellSummary("a", "1/8", mean, std, expected, values, tuple(scores.items()), (), (), stale)


def test_seeds_are_paired_and_not_ranks():
    # by hand: 0.1 + 0.2 + 0.3 over the seeds; std of (0.1, 0.2, 0.3) by n - 1 is 0.1
    found = paired_difference(cell({0: 0.6, 1: 0.5, 2: 0.4}), cell({2: 0.1, 1: 0.3, 0: 0.5}))
    assert found is not None
    assert (found.mean, found.std) == (pytest.approx(0.2, abs=1e-15), pytest.approx(0.1, abs=1e-15))
    assert (found.n, found.is_settled) == (3, True)


def test_only_seeds_that_both_have_count():
    found = paired_difference(cell({0: 0.6, 1: 0.9}, expected=3), cell({0: 0.5, 2: 0.1}))
    assert found is not None
    assert (found.mean, found.n) == (pytest.approx(0.1, abs=1e-15), 1)
    assert math.isnan(found.std)
    assert not found.is_settled


def test_no_common_seed_is_no_difference():
    assert paired_difference(cell({0: 0.6}), cell({1: 0.5})) is None


def test_a_stale_reference_leaves_it_unsettled():
    found = paired_difference(cell({0: 0.6}), cell({0: 0.5}, stale=((0, "code"),)))
    assert found is not None
    assert not found.is_settled
