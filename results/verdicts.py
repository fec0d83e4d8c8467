"""Our mean against a published one, in a word. Knows neither tables nor formats."""

import math
from dataclasses import dataclass
from typing import Literal

from results.aggregate import CellSummary
from results.figures import signed
from results.published import PublishedScore

VerdictKind = Literal["reproduced", "within spread", "off"]
TOLERANCE_POINTS = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """How our mean compares; `difference_points` is ours minus the published one, in points of mean IoU in percent."""

    kind: VerdictKind
    difference_points: float

    @property
    def text(self) -> str:
        """The verdict as it is printed, such as "off by −1.31"."""
        return self.kind if self.kind != "off" else f"off by {signed(self.difference_points)}"


def verdict_of(
    cell: CellSummary, score: PublishedScore, *, tolerance_points: float = TOLERANCE_POINTS
) -> Verdict | None:
    """Judge a settled cell by a published score.

    Returns: "reproduced" where the means differ by no more than the tolerance, "within spread" where by no more than
    the larger of the standard deviations that are known, else "off" (compared to 1e-9 points); None where the cell is
    incomplete or stale, or nothing was published.
    Raises: ValueError where the tolerance is negative.
    """
    if not tolerance_points >= 0:
        raise ValueError(f"tolerance of {tolerance_points} points: give 0 or more (results/verdicts.py)")
    if not cell.is_settled or score.mean is None:
        return None
    difference = round(100 * cell.mean - float(score.mean), 9)
    ours, theirs = 0.0 if math.isnan(cell.std) else 100 * cell.std, float(score.std or 0)
    if abs(difference) <= tolerance_points:
        return Verdict("reproduced", difference)
    return Verdict("within spread" if abs(difference) <= round(max(ours, theirs), 9) else "off", difference)
