"""A computed table to comparisons: rows with the reference row, cells with published values. Knows no words for them.

Differences are in points, 100 times a difference of mean IoU in [0, 1].
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from results.aggregate import CellSummary, Selection
from results.compute import ComputedTable, Line
from results.published import PublishedScore
from results.significance import (
    Interval,
    Target,
    equivalence_p,
    holm,
    mean_interval,
    mean_p,
    sign_flip_p,
    smallest_sign_flip_p,
    standardized_effect,
)

LEVEL = 0.05
FEWEST_SEEDS = 3
"""With two seeds a t test has one degree of freedom: its p is printed, and nothing is claimed by it."""
MARGIN_POINTS = 0.5
_UNITS = 10**12  # a difference in [-1, 1] as a whole number of these: exact sums in any order, and ties that are ties
_UNITS_PER_POINT = _UNITS // 100

ComparisonVerdict = Literal["higher", "lower", "not shown", "disagree", "not testable", "not compared"]
EquivalenceVerdict = Literal["equivalent", "different", "undecided", "not testable"]


@dataclass(frozen=True, slots=True)
class PairedTest:
    """One test of a row's differences from the reference.

    `n` of `declared` units are used (pairs, or seeds); `difference` is their mean in points, NaN for none. `p` is None
    where nothing can be tested; `smallest_p` is the smallest that so many units could give, 0 where there is no limit.
    The two `_holm` are those after Holm over the `family` of rows that are compared, those without a p included.
    """

    n: int
    declared: int
    difference: float
    p: float | None
    smallest_p: float
    p_holm: float | None = None
    smallest_p_holm: float | None = None
    family: int = 0

    @property
    def is_shown(self) -> bool:
        """Whether this test shows a difference at LEVEL after Holm."""
        return self.p_holm is not None and self.p_holm <= LEVEL


NOT_TESTED = PairedTest(0, 0, math.nan, None, 1.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row beside the reference row, over all fractions at which both have a done seed.

    `pairs` is the sign-flip test in which every (fraction, seed) counts as independent, `seeds` its conservative twin:
    the t test on each seed's mean over the `fractions`, of the seeds that have them all. `interval` (in points) and
    `effect` (Hedges' g) belong to `seeds`. `other_selection` is the row's where it is not the reference's: such a row
    is not compared. `sizes` are (the row's, the reference's) evaluation sizes where they differ.
    """

    row: str
    reference: str
    fractions: tuple[str, ...] = ()
    pairs: PairedTest = NOT_TESTED
    seeds: PairedTest = NOT_TESTED
    interval: Interval | None = None
    effect: float | None = None
    other_selection: Selection | None = None
    sizes: tuple[str, str] | None = None

    @property
    def can_claim(self) -> bool:
        """Whether there is enough for either verdict: pairs that can reach LEVEL, and FEWEST_SEEDS that spread."""
        smallest = self.pairs.smallest_p_holm
        has_pairs = smallest is not None and smallest <= LEVEL
        return has_pairs and self.seeds.n >= FEWEST_SEEDS and self.seeds.p is not None

    @property
    def verdict(self) -> ComparisonVerdict:
        """What may be claimed: a difference only where both tests show it, in one direction."""
        if self.other_selection is not None:
            return "not compared"
        if not self.can_claim:
            return "not testable"
        if not self.pairs.is_shown and not self.seeds.is_shown:
            return "not shown"
        same_direction = self.pairs.difference * self.seeds.difference > 0
        if not (self.pairs.is_shown and self.seeds.is_shown and same_direction):
            return "disagree"
        return "higher" if self.seeds.difference > 0 else "lower"


@dataclass(frozen=True, slots=True)
class Equivalence:
    """A cell beside its published value; `difference` is ours - published, in points.

    `is_fixed`: the published mean counts as a number without noise, its std or number of runs being unknown.
    `p` is that of two one-sided tests at `margin` points, `p_different` that of the test for any difference; None
    where nothing can be tested.
    """

    row: str
    label_fraction: str
    n: int
    expected: int
    published: float
    difference: float
    margin: float
    is_fixed: bool
    p: float | None
    p_different: float | None

    @property
    def verdict(self) -> EquivalenceVerdict:
        """Equivalence is asked first: a difference that is shown may still be shown to lie within the margin."""
        if self.n < FEWEST_SEEDS or self.p is None or self.p_different is None:
            return "not testable"
        if self.p <= LEVEL:
            return "equivalent"
        return "different" if self.p_different <= LEVEL else "undecided"


# --- with the reference row ---------------------------------------------------------------------------------------


def reference_line(table: ComputedTable, reference: str | None = None) -> Line | None:
    """The line that others are compared with; None where the table names none, or its rows were chosen without it.

    Args:
        reference: a row's label instead of the table's own `reference_row` (upper and lower case are one).
    Raises: ValueError where a row is given that the table does not have.
    """
    wanted = table.reference_row if reference is None else reference
    found = [line for line in table.lines if wanted is not None and line.label.casefold() == wanted.casefold()]
    if reference is not None and not found:
        there = ", ".join(line.label for line in table.lines)
        raise ValueError(f"reference row {reference!r}: table {table.name} has the rows {there}")
    return found[0] if found else None


def compare_with_reference(table: ComputedTable, reference: str | None = None) -> tuple[Comparison, ...]:
    """Compare every other row with the reference row, in the order of the table; nothing where there is none.

    `reference` and errors as in `reference_line`.
    """
    line = reference_line(table, reference)
    if line is None:
        return ()
    compared = [_compare(table, other, line) for other in table.lines if other is not line]
    pairs = _adjusted([comparison.pairs for comparison in compared])
    seeds = _adjusted([comparison.seeds for comparison in compared])
    return tuple(replace(c, pairs=p, seeds=s) for c, p, s in zip(compared, pairs, seeds, strict=True))


def _compare(table: ComputedTable, line: Line, reference: Line) -> Comparison:
    if line.selection != reference.selection:
        return Comparison(line.label, reference.label, other_selection=line.selection)
    declared, used = _pair(table, line, reference)
    fractions = tuple(fraction for fraction in table.fractions if any(place[0] == fraction for place in used))
    means = _means_of_seeds(used, fractions)
    sizes = ("+".join(line.eval_sizes), "+".join(reference.eval_sizes))
    return Comparison(
        line.label,
        reference.label,
        fractions,
        pairs=_test_pairs(list(used.values()), len(declared)),
        seeds=_test_seeds(means, len({seed for _, seed in declared})),
        interval=mean_interval(means),
        effect=standardized_effect(means),
        sizes=sizes if all(sizes) and sizes[0] != sizes[1] else None,
    )


def _pair(table: ComputedTable, line: Line, reference: Line) -> tuple[set[tuple[str, int]], dict[tuple[str, int], int]]:
    """The (fraction, seed) that both rows declare, and the differences in units at those where both are in the mean."""
    declared: set[tuple[str, int]] = set()
    used: dict[tuple[str, int], int] = {}
    for fraction, cell, other in zip(table.fractions, line.cells, reference.cells, strict=True):
        if cell is not None and other is not None:
            declared |= {(fraction, seed) for seed in _declared_seeds(cell) & _declared_seeds(other)}
            theirs = dict(other.scores)
            for seed, value in cell.scores:
                if seed in theirs:
                    used[fraction, seed] = round((value - theirs[seed]) * _UNITS)
    return declared, used


def _declared_seeds(cell: CellSummary) -> set[int]:
    return {seed for seed, _ in (*cell.scores, *cell.absent)}


def _means_of_seeds(used: Mapping[tuple[str, int], int], fractions: Sequence[str]) -> list[float]:
    """The mean difference over the fractions, in points, of each seed that has them all."""
    seeds = sorted({seed for _, seed in used})
    whole = [seed for seed in seeds if all((fraction, seed) in used for fraction in fractions)]
    return [_points([used[fraction, seed] for fraction in fractions]) for seed in whole]


def _points(units: Sequence[int]) -> float:
    return sum(units) / (len(units) * _UNITS_PER_POINT) if units else math.nan


def _test_pairs(units: Sequence[int], declared: int) -> PairedTest:
    p = sign_flip_p(units) if units else None
    return PairedTest(len(units), declared, _points(units), p, smallest_sign_flip_p(units))


def _test_seeds(means: Sequence[float], declared: int) -> PairedTest:
    difference = math.fsum(means) / len(means) if means else math.nan
    return PairedTest(len(means), declared, difference, mean_p(means, Target(0.0)), 0.0)


def _adjusted(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """Adjust by Holm over all rows that are compared, so that a table half done claims no more easily than a whole one.

    Holm's p rises with every p that goes in, so the smallest that a row could reach is Holm's of the smallest ones.
    """
    family = [test for test in tests if test is not NOT_TESTED]
    found = holm([1.0 if test.p is None else test.p for test in family])
    smallest = iter(zip(found, holm([test.smallest_p for test in family]), strict=True))
    return [test if test is NOT_TESTED else _with_holm(test, *next(smallest), len(family)) for test in tests]


def _with_holm(test: PairedTest, p_holm: float, smallest_p_holm: float, family: int) -> PairedTest:
    known = None if test.p is None else p_holm
    return replace(test, p_holm=known, smallest_p_holm=smallest_p_holm, family=family)


# --- with published values ----------------------------------------------------------------------------------------


def compare_with_published(table: ComputedTable, margin_points: float = MARGIN_POINTS) -> tuple[Equivalence, ...]:
    """Test every cell for equivalence with its published mean within a margin, row by row; none of a demonstration.

    Two one-sided t tests at 0.05: Welch's on both means where the paper prints std and number of runs (its std is taken
    as that of a sample, n - 1, which papers seldom say), else one-sample against the published mean as a fixed number.
    The second asks less: whether we are near what was printed, not near what would come out on average.

    Args:
        margin_points: the largest difference that counts as none, in points, above 0.
    """
    if not 0 < margin_points < math.inf:
        raise ValueError(f"margin {margin_points}: give points of mean IoU above 0, such as {MARGIN_POINTS}")
    return tuple(
        _against_published(cell, score, margin_points)
        for line in table.lines
        for cell, score in zip(line.cells, line.published, strict=True)
        if not table.is_demonstration and cell is not None and score is not None and score.mean is not None
    )


def _against_published(cell: CellSummary, score: PublishedScore, margin: float) -> Equivalence:
    assert score.mean is not None
    target = Target(float(score.mean), None if score.std is None else float(score.std), score.n)
    percents = [100 * value for value in cell.values]
    return Equivalence(
        row=cell.row,
        label_fraction=cell.label_fraction,
        n=cell.n,
        expected=cell.expected,
        published=target.mean,
        difference=100 * cell.mean - target.mean,
        margin=margin,
        is_fixed=target.is_fixed,
        p=equivalence_p(percents, target, margin),
        p_different=mean_p(percents, target),
    )
