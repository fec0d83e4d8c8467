"""Verdicts at their borders, worked out by hand."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest

from results.aggregate import CellSummary
from results.figures import percent, signed
from results.published import PublishedScore
from results.verdicts import verdict_of


def cell(mean, std=0.0, *, expected=5, stale=()):
    values = (mean,) * 5
    return CellSummary("a", "1/8", mean, std, expected, values, tuple(enumerate(values)), (), (), stale)


def score(mean, std=None):
    decimals = (None if value is None else Decimal(value) for value in (mean, std))
    return PublishedScore("a", Fraction(1, 8), "reported", *decimals, 5, "somewhere")


@pytest.mark.parametrize(
    ("mean", "std", "published", "kind"),
    [
        (0.6050, 0.0, ("60.0",), "reproduced"),  # 0.5 points, the tolerance itself
        (0.5950, 0.0, ("60.0",), "reproduced"),
        (0.6051, 0.0, ("60.0",), "off"),
        (0.6051, 0.0051, ("60.0",), "within spread"),  # our std, to the digit
        (0.6051, 0.0050, ("60.0",), "off"),
        (0.6100, 0.0, ("60.0", "1.0"), "within spread"),  # the published std
        (0.6101, 0.0, ("60.0", "1.0"), "off"),
        (0.6140, 0.0100, ("60.0", "1.0"), "off"),  # the larger of the two, not their sum
        (0.6100, math.nan, ("60.0",), "off"),  # one seed has no spread
    ],
)
def test_the_verdict_goes_by_tolerance_then_by_the_larger_spread(mean, std, published, kind):
    assert verdict_of(cell(mean, std), score(*published)).kind == kind


def test_the_sign_is_ours_minus_theirs():
    assert verdict_of(cell(0.62), score("60.0")).text == "off by +2.00"
    assert verdict_of(cell(0.58), score("60.0")).text == "off by −2.00"
    assert verdict_of(cell(0.58), score("60.0")).difference_points == -2.0


def test_an_incomplete_or_stale_cell_and_an_unpublished_one_get_no_verdict():
    assert verdict_of(cell(0.6, expected=6), score("60.0")) is None
    assert verdict_of(cell(0.6, stale=((0, "code"),)), score("60.0")) is None
    assert verdict_of(cell(0.6), score(None)) is None


def test_another_tolerance_moves_the_border_and_a_negative_one_is_refused():
    assert verdict_of(cell(0.62), score("60.0"), tolerance_points=2).kind == "reproduced"
    with pytest.raises(ValueError, match="give 0 or more"):
        verdict_of(cell(0.6), score("60.0"), tolerance_points=-1)


def test_what_rounds_to_nothing_has_no_sign():
    assert [signed(points) for points in (1.234, -1.236, 0.004, -0.004)] == ["+1.23", "−1.24", "0.00", "0.00"]
    assert [percent(share) for share in (0.62254, math.nan)] == ["62.25", ""]
