"""What a cell must say beside its numbers: how many seeds they stand on, and a letter for each state of the others.

Letters, since asterisks and daggers beside a number are read as significance. Knows neither tables nor formats.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from results.aggregate import UNDEFINED, CellSummary

STALE = "stale"
_WORDS = {
    "missing": "m: not started",
    "running": "r: in training",
    "partial": "p: stopped before the end",
    "failed": "f: failed",
    UNDEFINED: "u: no class has a defined IoU",
    STALE: "s: stale, in the mean although what decides the number has changed since",
}
"""The letter of each state and what it means, in the order in which marks stand beside a number."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A state that some seeds of a cell are in."""

    state: str
    seeds: tuple[int, ...]

    @property
    def letter(self) -> str:
        """What is printed."""
        return _WORDS[self.state].partition(":")[0]

    @property
    def text(self) -> str:
        """The state with its seeds, such as "failed: seeds 1, 2"."""
        return f"{self.state}: {'seed' if len(self.seeds) == 1 else 'seeds'} {', '.join(map(str, self.seeds))}"


def marks_of(cell: CellSummary) -> tuple[Mark, ...]:
    """A mark for each state of seeds that are not plainly done, in the order of the legend."""
    seeds: dict[str, list[int]] = {}
    for seed, state in (*cell.absent, *((seed, STALE) for seed, _ in cell.stale)):
        seeds.setdefault(state, []).append(seed)
    return tuple(Mark(state, tuple(seeds[state])) for state in _WORDS if state in seeds)


def count_note(cell: CellSummary, num_seeds: int) -> str:
    """How many seeds the mean stands on, where not all that the table declares; else nothing."""
    if not cell.is_complete:
        return f"{cell.n}/{cell.expected}"
    return f"n = {cell.n}" if cell.n != num_seeds else ""


def state_words(cell: CellSummary) -> str:
    """All marks in words, such as "failed: seed 1; missing: seeds 3, 4"; "done" where there is none."""
    return "; ".join(mark.text for mark in marks_of(cell)) or "done"


def legend(cells: Iterable[CellSummary]) -> tuple[str, ...]:
    """What each letter means that stands beside one of these cells."""
    found = {mark.state for cell in cells for mark in marks_of(cell)}
    return tuple(words for state, words in _WORDS.items() if state in found)
