"""The statistics of a computed table: the one door to its intervals, comparisons and words, and their CSV.

Knows neither storage nor screen. The same records give the same bytes.
"""

import csv
import io

from results.comparisons import (
    MARGIN_POINTS,
    Comparison,
    Equivalence,
    PairedTest,
    compare_with_published,
    compare_with_reference,
)
from results.compute import ComputedTable
from results.escaping import escape_csv
from results.significance import Interval, mean_interval
from results.statistics_words import COMPARISON_HEADINGS, comparison_figures, sentences, what_varies

__all__ = [
    "COMPARISON_HEADINGS",
    "Comparison",
    "Equivalence",
    "Interval",
    "compare_with_published",
    "compare_with_reference",
    "comparison_figures",
    "format_statistics_csv",
    "mean_interval",
    "sentences",
    "what_varies",
]

_TEST_FIELDS = ("n", "declared", "difference_points", "p", "smallest_p", "p_holm", "smallest_p_holm", "rows_in_holm")
_COLUMNS = (
    "kind",
    "row",
    "against",
    "label_fractions",
    "verdict",
    *(f"pairs_{name}" for name in _TEST_FIELDS),
    *(f"seeds_{name}" for name in _TEST_FIELDS),
    "interval_low_points",
    "interval_high_points",
    "interval_confidence",
    "hedges_g",
    "published_points",
    "published_is_fixed",
    "margin_points",
    "p_equivalence",
)


def format_statistics_csv(
    table: ComputedTable, *, reference: str | None = None, margin_points: float = MARGIN_POINTS
) -> str:
    """A line per comparison with the reference row and one per cell with a published value, in full precision.

    Columns that say nothing of a kind are empty; of an equivalence, seeds_p is that of the test for any difference.
    Arguments and errors as in `sentences`.
    """
    lines = [_comparison_values(comparison) for comparison in compare_with_reference(table, reference)]
    lines += [_equivalence_values(cell) for cell in compare_with_published(table, margin_points)]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _exact(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _comparison_values(comparison: Comparison) -> dict[str, str | float | None]:
    interval = comparison.interval
    return {
        "kind": "comparison",
        "row": escape_csv(comparison.row),
        "against": escape_csv(comparison.reference),
        "label_fractions": " ".join(comparison.fractions),
        "verdict": comparison.verdict,
        **_test_values("pairs", comparison.pairs),
        **_test_values("seeds", comparison.seeds),
        "interval_low_points": interval.low if interval else None,
        "interval_high_points": interval.high if interval else None,
        "interval_confidence": interval.confidence if interval else None,
        "hedges_g": comparison.effect,
    }


def _test_values(unit: str, test: PairedTest) -> dict[str, str | float | None]:
    values = (test.n, test.declared, test.difference, test.p, test.smallest_p)
    holm = (test.p_holm, test.smallest_p_holm, test.family)
    return {f"{unit}_{name}": value for name, value in zip(_TEST_FIELDS, (*values, *holm), strict=True)}


def _equivalence_values(cell: Equivalence) -> dict[str, str | float | None]:
    return {
        "kind": "equivalence",
        "row": escape_csv(cell.row),
        "against": "published",
        "label_fractions": cell.label_fraction,
        "verdict": cell.verdict,
        "seeds_n": cell.n,
        "seeds_declared": cell.expected,
        "seeds_difference_points": cell.difference,
        "seeds_p": cell.p_different,
        "published_points": cell.published,
        "published_is_fixed": "yes" if cell.is_fixed else "no",
        "margin_points": cell.margin,
        "p_equivalence": cell.p,
    }


def _exact(value: str | float | None) -> str:
    if value is None or value != value:
        return ""
    return value if isinstance(value, str) else repr(value)
