"""Intervals and tests of a handful of numbers. Knows no table, row or seed; the first test loads scipy.stats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from results.aggregate import mean_and_std

Alternative = Literal["two-sided", "greater", "less"]
CONFIDENCE = 0.95
EXACT_PAIRS = 40
"""Up to so many differences every flip of their signs is counted; two halves of 2^20 sums each take 16 MiB."""
GRID = 2**20
"""Beyond that, the sum of all sizes is cut into so many steps."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of the mean of `n` values, in their unit."""

    mean: float
    low: float
    high: float
    n: int
    confidence: float


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval of a mean, two-sided.

    A percentile bootstrap of five numbers covers 84 % instead of 95 %, and 1.96 standard errors 88 %.

    Args:
        confidence: in (0, 1).
    Returns: None for fewer than two values and for values that are all equal: they show no spread to judge by.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: give a number between 0 and 1, such as {CONFIDENCE}")
    mean, std = mean_and_std(values)
    if not std > 0:
        return None
    from scipy import stats

    low, high = stats.t.interval(confidence, len(values) - 1, loc=mean, scale=std / math.sqrt(len(values)))
    return Interval(mean, float(low), float(high), len(values), confidence)


def standardized_effect(values: Sequence[float]) -> float | None:
    """Hedges' g of paired differences: mean / sample std, freed of its bias in small samples.

    Uncorrected it is a quarter too large at n = 5. None below three values, where the correction leaves nothing, and
    for values that are all equal.
    """
    mean, std = mean_and_std(values)
    if len(values) < 3 or not std > 0:
        return None
    half = (len(values) - 1) / 2
    return mean / std * math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)


# --- tests of a mean ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A mean to test against; without `std` and `n` (or with one run) it is a fixed number without noise."""

    mean: float
    std: float | None = None
    n: int | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether its own noise is unknown and so not counted."""
        return not self.std or self.n is None or self.n < 2


def mean_p(
    values: Sequence[float], target: Target, *, shift: float = 0.0, alternative: Alternative = "two-sided"
) -> float | None:
    """The p value of a t test of a mean against a target + shift: one-sample where that is fixed, Welch's where not.

    Args:
        alternative: "greater" asks whether the mean of `values` is greater.
    Returns: None for fewer than two values and for values that are all equal.
    """
    mean, std = mean_and_std(values)
    if not std > 0:
        return None
    from scipy import stats

    bound = target.mean + shift
    if target.is_fixed:
        return float(stats.ttest_1samp(sorted(values), bound, alternative=alternative).pvalue)
    assert target.std is not None
    assert target.n is not None
    ours, theirs = (mean, std, len(values)), (bound, target.std, target.n)
    return float(stats.ttest_ind_from_stats(*ours, *theirs, equal_var=False, alternative=alternative).pvalue)


def equivalence_p(values: Sequence[float], target: Target, margin: float) -> float | None:
    """The p value of two one-sided tests: small where the mean is shown to be less than `margin` from the target."""
    above_low = mean_p(values, target, shift=-margin, alternative="greater")
    below_high = mean_p(values, target, shift=margin, alternative="less")
    return None if above_low is None or below_high is None else max(above_low, below_high)


# --- sign flips ---------------------------------------------------------------------------------------------------


def sign_flip_p(differences: Sequence[int]) -> float:
    """The two-sided p value of a sum when each difference was as likely to have the other sign.

    Exact for up to EXACT_PAIRS differences that are not zero. Beyond that their sizes are rounded to a grid, whose sums
    are counted without a draw, and every doubt is counted against a difference: never too small, and as measured less
    than 0.1 % of itself too large at 100 differences, 2 % at 400. Random flips would depend on their draws, and cannot
    resolve a p below one in their number.

    Args:
        differences: whole numbers of some small unit, so that sums are exact and ties are ties in any order.
    """
    sizes = sorted(abs(difference) for difference in differences if difference)
    observed = abs(sum(differences))
    if observed == 0:
        return 1.0
    tail = _counted_tail(sizes, observed) if len(sizes) <= EXACT_PAIRS else _tail_on_grid(sizes, observed)
    return min(1.0, 2 * tail)


def smallest_sign_flip_p(differences: Sequence[int]) -> float:
    """The smallest p value that any signs of these differences could have given: a zero has no sign to flip."""
    num_signs = sum(difference != 0 for difference in differences)
    return min(1.0, 2 / (1 << num_signs))


def _counted_tail(sizes: Sequence[int], observed: int) -> float:
    """The share of signed sums that reach `observed`: each sum of one half meets each of the other."""
    middle = len(sizes) // 2
    first, second = np.sort(_signed_sums(sizes[:middle])), np.sort(_signed_sums(sizes[middle:]))
    num_below = np.searchsorted(first, observed - second, side="left")
    return int((len(first) - num_below).sum()) / (1 << len(sizes))


def _signed_sums(sizes: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    sums = np.zeros(1, np.int64)
    for size in sizes:
        sums = np.concatenate((sums - size, sums + size))
    return sums


def _tail_on_grid(sizes: Sequence[int], observed: int) -> float:
    """An upper bound of the same share: a sum of rounded sizes is off by half a step per size at most."""
    steps = [round(size * GRID / sum(sizes)) for size in sizes]
    shares = np.ones(1)  # by the steps with the sign of the observed sum
    for step in steps:
        shares = (np.pad(shares, (0, step)) + np.pad(shares, (step, 0))) / 2
    reached = observed * GRID / sum(sizes) - len(sizes) / 2
    return float(shares[math.ceil((sum(steps) + reached) / 2) :].sum())


# --- several tests ------------------------------------------------------------------------------------------------


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """The p values adjusted by Holm's step-down method, in the order given.

    Claims at adjusted p <= 0.05 hold one that is false with a chance of 5 % at most, however the tests depend on each
    other, as those do that share a reference.
    """
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return tuple(adjusted)
