"""Which trials are trained first, and which further ones would tell most: pure arithmetic. Knows no storage, no Ray."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev


@dataclass(frozen=True, slots=True)
class Waiting:
    """A trial that has not started: how many devices it takes at once, and the seconds it is expected to take on them.

    `layer`: how many seeds of its cell come before it. `is_known`: False where `seconds` is good for comparing trials
    with each other and says nothing of the clock.
    """

    trial_id: str
    devices: int
    seconds: float
    layer: int = 0
    is_known: bool = True

    @property
    def work(self) -> float:
        """Device-seconds."""
        return self.devices * self.seconds


def longest_first(waiting: Iterable[Waiting]) -> list[Waiting]:
    """By falling device-seconds; equals stay in the order given. What is short fills the gaps at the end."""
    return sorted(waiting, key=lambda trial: -trial.work)


def breadth_first(waiting: Iterable[Waiting]) -> list[Waiting]:
    """One seed of every cell before the second, the longest first within a layer; equals stay in the order given."""
    return sorted(waiting, key=lambda trial: (trial.layer, -trial.work))


def layers(places: Iterable[tuple[Hashable, bool]]) -> list[int]:
    """The layer of each trial of a table, given its cell (row and fraction) and whether it waits.

    Seeds of a cell that do not wait (done, or trained by somebody else) come before those that do, which follow in the
    order given.
    """
    listed = list(places)
    before = Counter(cell for cell, waits in listed if not waits)
    found = []
    for cell, waits in listed:
        found.append(before[cell] if waits else 0)
        before[cell] += waits
    return found


def affordable(waiting: Sequence[Waiting], left: float) -> list[Waiting]:
    """Those of an ordered queue that fit into the device-seconds left, earlier ones first; what does not fit is passed
    over for shorter ones.

    A length that nobody knows counts as all that is left: such a trial starts alone, and the next one knows more.
    """
    chosen = []
    for trial in waiting:
        if left <= 0:
            break
        cost = trial.work if trial.is_known else left
        if cost <= left:
            chosen.append(trial)
            left -= cost
    return chosen


# --- what further runs would tell ---------------------------------------------------------------------------------

Scores = Mapping[tuple[str, str], Mapping[int, float]]
"""By row and fraction: the score of each seed that is done, in any unit."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The comparison of a row with the reference row that is least certain at one fraction, and what would narrow it.

    `standard_error` is that of the mean paired difference over `num_pairs` seeds, None below two pairs. `seeds`: the
    next one or two that would give a pair. `expected_error`: the standard error with them, were the spread to stay.
    """

    row: str
    label_fraction: str
    num_pairs: int
    standard_error: float | None
    seeds: tuple[int, ...]
    expected_error: float | None


def most_uncertain(scores: Scores, reference: str, seeds: Sequence[int]) -> Narrowing | None:
    """The comparison with the reference row whose further runs would narrow most; None where nothing is compared.

    For each row and fraction that the reference has too: d_s = score of the row - score of the reference for every seed
    s that both have, n of them; standard error = std(d, n - 1) / sqrt(n). With fewer than two pairs it is unknown,
    which is the largest; of equals the one with the fewest pairs, then the first.

    Args:
        scores: a place for every declared cell, empty where nothing is done.
        seeds: those of the table; where all give a pair already, the next whole number does.
    """
    found = []
    for (row, fraction), own in scores.items():
        other = scores.get((reference, fraction))
        if row != reference and other is not None:
            found.append(
                _narrowing(row, fraction, {seed: own[seed] - other[seed] for seed in own if seed in other}, seeds)
            )
    return max(found, key=_uncertainty, default=None)


def _narrowing(row: str, fraction: str, differences: Mapping[int, float], seeds: Sequence[int]) -> Narrowing:
    values = list(differences.values())
    missing = [seed for seed in seeds if seed not in differences] or [max((*seeds, *differences), default=-1) + 1]
    wanted = tuple(missing[: max(1, 2 - len(values))])
    if len(values) < 2:
        return Narrowing(row, fraction, len(values), None, wanted, None)
    spread = stdev(values)
    more = len(values) + len(wanted)
    return Narrowing(row, fraction, len(values), spread / math.sqrt(len(values)), wanted, spread / math.sqrt(more))


def _uncertainty(narrowing: Narrowing) -> tuple[float, int]:
    error = math.inf if narrowing.standard_error is None else narrowing.standard_error
    return error, -narrowing.num_pairs
