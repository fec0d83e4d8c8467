"""One thing to know of a table before time is spent on it, and what such things are about."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["frame", "splits", "selection", "declared", "method", "weights", "space", "seeds"]
Level = Literal["wrong", "doubt", "told"]

HEADINGS: dict[Kind, str] = {
    "frame": "the frame",
    "splits": "labelled images",
    "selection": "selection",
    "declared": "declared by the rows, with the card or section of docs/methods.md",
    "method": "methods and schedules",
    "weights": "initial weights",
    "space": "memory and disk, estimated",
    "seeds": "seeds",
}
"""What a kind is called, in the order in which they are printed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence for a person, and the rows it holds for (none: all of the table).

    `level`: "wrong" makes numbers that do not say what the table says, or cells that fail; "doubt" is to be thought
    over; "told" is for information.
    """

    kind: Kind
    level: Level
    text: str
    rows: tuple[str, ...] = ()


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Each sentence once, with all rows it holds for, in the order of kinds and of the rows."""
    found: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        key = (finding.kind, finding.level, finding.text)
        rows = (*found[key].rows, *finding.rows) if key in found else finding.rows
        found[key] = replace(finding, rows=tuple(dict.fromkeys(rows)))
    return sorted(found.values(), key=lambda finding: list(HEADINGS).index(finding.kind))
