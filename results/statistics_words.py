"""The statistics of a computed table in plain words: what is shown, what is not, and what cannot be.

Claims follow `results/comparisons.py`; nothing is starred.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby

from results.caption import DEMONSTRATION
from results.comparisons import (
    FEWEST_SEEDS,
    LEVEL,
    MARGIN_POINTS,
    Comparison,
    ComparisonVerdict,
    Equivalence,
    PairedTest,
    compare_with_published,
    compare_with_reference,
    reference_line,
)
from results.compute import ComputedTable
from results.escaping import one_line
from results.figures import signed
from results.frame import TableLike
from results.significance import Interval

UNKNOWN_VARIATION = "the seed varies; whether the split of labelled images varies with it was not looked at"
COMPARISON_HEADINGS = ("row", "points", "95 %", "p flips", "Holm", "smallest", "p t", "Holm", "verdict")
NONE = "–"
_VERDICT_WORDS: dict[ComparisonVerdict, str] = {
    "higher": "higher, by both tests",
    "lower": "lower, by both tests",
    "not shown": "no difference is shown, which is no proof that there is none",
    "disagree": "the two tests disagree, so nothing is claimed",
}


# --- what varies --------------------------------------------------------------------------------------------------


def what_varies(table: TableLike) -> str:
    """What differs between the runs of one cell, read from the specs of the table's cells."""
    if len(table.seeds) < 2:
        return "nothing varies: one seed is declared"
    splits: dict[tuple[str, Fraction], set[object]] = defaultdict(set)
    for cell in table.cells():
        if cell.label_fraction < 1:
            splits[cell.row, cell.label_fraction].add((cell.spec.resolved_split_seed, cell.spec.labeled_names))
    fixed = [place for place, drawn in splits.items() if len(drawn) == 1]
    if not splits:
        return "the seed varies; every image is labelled, so there is no split to draw"
    if len(fixed) == len(splits):
        return "the seed varies; the split of labelled images does not, so nothing is said about other splits"
    rows = ", ".join(dict.fromkeys(one_line(row) for row, _ in fixed))
    but = f", but not in every cell of {rows}" if rows else ""
    return f"the seed varies, and with it the split of labelled images{but}"


# --- words --------------------------------------------------------------------------------------------------------


def sentences(
    table: ComputedTable,
    *,
    reference: str | None = None,
    margin_points: float = MARGIN_POINTS,
    varies: str | None = None,
) -> tuple[str, ...]:
    """The statistics in plain English, a point a line: what varies, each row, each row's published values.

    Args:
        reference: a row's label instead of the table's own reference row.
        margin_points: up to where a difference from a published value counts as none.
        varies: as `what_varies` says it; None: nobody looked.
    Raises: ValueError for a reference that is no row and a margin that is not above 0.
    """
    compared = compare_with_reference(table, reference)
    published = compare_with_published(table, margin_points)
    said = (
        *([DEMONSTRATION] if table.is_demonstration else []),
        f"Between the runs of a cell {varies or UNKNOWN_VARIATION}",
        *_said_of_stale(table),
        *_said_of_reference(table, reference, compared),
        *map(comparison_sentence, compared),
        *_said_of_published(published),
    )
    return tuple(f"{text.rstrip('.')}." for text in said)


def _said_of_stale(table: ComputedTable) -> Iterable[str]:
    num_stale = sum(len(cell.stale) for line in table.lines for cell in line.cells if cell is not None)
    if num_stale:
        yield f"{_count(num_stale, 'run')} behind these numbers came from what has changed since (stale)"


def _said_of_reference(table: ComputedTable, reference: str | None, compared: Sequence[Comparison]) -> Iterable[str]:
    line = reference_line(table, reference)
    if line is None:
        name = table.reference_row
        there = f"the reference row {one_line(name)} is not among them" if name else "the table names no reference row"
        yield f"Rows are compared with no other: {there}"
    elif not compared:
        yield f"There is no row to compare with {one_line(line.label)}"
    else:
        yield (
            f"Rows are compared with {one_line(line.label)}, run by run at the same label fraction and seed, over all "
            "fractions at once; differences in points of mean IoU. Two tests: a sign-flip test, for which every such "
            "pair is independent; and a t test on each seed's mean over the fractions, for which only seeds are, "
            "because the fractions of a seed share images, and which trusts those means to be normal. Each is "
            f"corrected over the rows by Holm's method. A difference is claimed only where both show it at {LEVEL}"
        )


def comparison_sentence(comparison: Comparison) -> str:
    """A row beside the reference row: difference, verdict, both tests."""
    names = f"{one_line(comparison.row)} against {one_line(comparison.reference)}"
    if comparison.other_selection is not None:
        own = comparison.other_selection
        return f"{names}: not compared, being judged in another way ({own.network}, {own.policy} evaluation)"
    if not comparison.pairs.n:
        return f"{names}: not compared, none of {_count(comparison.pairs.declared, 'pair')} being done in both rows"
    parts = [f"{names}: {_difference(comparison)}", verdict_words(comparison), _both_tests(comparison)]
    if comparison.sizes:
        parts.append(f"Judged at {comparison.sizes[0]}, the reference at {comparison.sizes[1]}")
    return ". ".join(part[0].upper() + part[1:] if number else part for number, part in enumerate(parts))


def comparison_figures(comparison: Comparison) -> list[str]:
    """A row beside the reference row as figures below COMPARISON_HEADINGS; a dash for what there is not."""
    interval, pairs, seeds = comparison.interval, comparison.pairs, comparison.seeds
    difference = seeds.difference if seeds.n else pairs.difference
    return [
        one_line(comparison.row),
        signed(difference) if pairs.n else NONE,
        _range(interval) if interval else NONE,
        *(NONE if p is None else _p(p) for p in (pairs.p, pairs.p_holm, pairs.smallest_p if pairs.n else None)),
        *(NONE if p is None else _p(p) for p in (seeds.p, seeds.p_holm)),
        comparison.verdict,
    ]


def verdict_words(comparison: Comparison) -> str:
    """What may be claimed of a row that has pairs, or why nothing can be."""
    if comparison.verdict in _VERDICT_WORDS:
        return _VERDICT_WORDS[comparison.verdict]
    return f"nothing can be claimed: {'; '.join(_shortcomings(comparison))}"


def _shortcomings(comparison: Comparison) -> Iterable[str]:
    pairs, seeds = comparison.pairs, comparison.seeds
    if pairs.smallest_p_holm is not None and pairs.smallest_p_holm > LEVEL:
        after = f", {_p(pairs.smallest_p_holm)} after Holm" if pairs.smallest_p_holm > pairs.smallest_p else ""
        yield f"the signs of {_count(pairs.n, 'pair')} cannot give a p below {_p(pairs.smallest_p)}{after}"
    if seeds.n < FEWEST_SEEDS:
        yield f"{_count(seeds.n, 'seed')} with every fraction, of {FEWEST_SEEDS} that are needed"
    elif seeds.p is None:
        yield "every seed has the same difference, so there is no spread to judge by"


def _difference(comparison: Comparison) -> str:
    seeds, interval = comparison.seeds, comparison.interval
    if not seeds.n:
        return f"{_points(comparison.pairs.difference)} on the mean of the pairs"
    words = [f"{100 * interval.confidence:g} % interval {_range(interval)}"] if interval else []
    words += [f"Hedges' g {comparison.effect:.2f}"] if comparison.effect is not None else []
    return _points(seeds.difference) + (f" ({', '.join(words)})" if words else "")


def _both_tests(comparison: Comparison) -> str:
    pairs, seeds = comparison.pairs, comparison.seeds
    is_another = seeds.n > 0 and _points(pairs.difference) != _points(seeds.difference)
    mean = f" of mean {_points(pairs.difference)}" if is_another else ""
    where = f"{_used(pairs, 'pair')}{mean} at {', '.join(comparison.fractions)}"
    flips = f"Sign flips: {_p_words(pairs)}, the smallest attainable being {_p(pairs.smallest_p)}, on {where}"
    return f"{flips}. t on seed means: {_p_words(seeds)}, on {_used(seeds, 'seed')}"


def _p_words(test: PairedTest) -> str:
    """A p value with the one after Holm, where more than one row was tested."""
    if test.p is None:
        return "no p"
    holm = f" ({_p(test.p_holm)} after Holm over {test.family} rows)" if test.family > 1 else ""
    return f"p = {_p(test.p)}{holm}"


def _said_of_published(found: Sequence[Equivalence]) -> Iterable[str]:
    if not found:
        return
    yield (
        f"Cells are tested for equivalence with their published value within {found[0].margin:g} points of mean IoU "
        f"(two one-sided t tests at {LEVEL}, cell by cell, not corrected for the number of cells). One that is not "
        f"equivalent is different where a two-sided t test shows it at {LEVEL}, else undecided"
    )
    yield from _said_of_noise(found)
    for row, cells in groupby(found, key=lambda cell: cell.row):
        yield f"{one_line(row)} and its published values: {'; '.join(map(equivalence_words, cells))}"


def _said_of_noise(found: Sequence[Equivalence]) -> Iterable[str]:
    if any(cell.is_fixed for cell in found):
        yield (
            "A published value whose std or number of runs is not known is taken as a fixed number: its own noise is "
            "not counted, so such a test says how near we are to what was printed"
        )
    if not all(cell.is_fixed for cell in found):
        yield (
            "Where both are known the test counts the noise of both means (Welch), the published std being taken as "
            "that of a sample (n - 1)"
        )


def equivalence_words(cell: Equivalence) -> str:
    """A cell beside its published value: verdict, difference, both p values."""
    place = f"at {cell.label_fraction}"
    if not cell.n:
        return f"{place} not testable, no seed being done"
    tests = [f"equivalence p = {_p(cell.p)}", f"difference p = {_p(cell.p_different)}"] if cell.p is not None else []
    said = [_points(cell.difference), *tests, _seeds(cell), *(["fixed"] if cell.is_fixed else [])]
    return f"{place} {_verdict_of_equivalence(cell)} ({', '.join(said)})"


def _verdict_of_equivalence(cell: Equivalence) -> str:
    match cell.verdict:
        case "equivalent":
            though = " though a difference is shown" if _is_shown(cell.p_different) else ""
            return f"equivalent within {cell.margin:g}{though}"
        case "different":
            return "different, and not shown to be within the margin"
        case "undecided":
            return "undecided"
    return f"not testable with {_count(cell.n, 'seed')}" + (" without spread" if cell.n >= FEWEST_SEEDS else "")


def _is_shown(p: float | None) -> bool:
    return p is not None and p <= LEVEL


def _seeds(cell: Equivalence) -> str:
    return f"n = {cell.n}" if cell.n == cell.expected else f"n = {cell.n} of {cell.expected}"


def _used(test: PairedTest, unit: str) -> str:
    return _count(test.n, unit) if test.n == test.declared else f"{test.n} of {_count(test.declared, unit)}"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" + ("" if number == 1 else "s")


def _points(difference: float) -> str:
    return f"{signed(difference)} points"


def _range(interval: Interval) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}"


def _p(p: float | None) -> str:
    return "unknown" if p is None else f"{p:.2g}"
