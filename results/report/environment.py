"""What the attempts behind a table ran on, counted: one line a thing, more than one value where they differ."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that attempts may differ in: each value with the number of attempts that had it."""

    name: str
    values: tuple[tuple[str, int], ...]


def environment_of(attempts: pd.DataFrame) -> Iterator[Fact]:
    """Devices, ranks, versions and digests of all attempts, nothing where there is none; as in `Frames.attempts`."""
    if not len(attempts):
        return
    for name, column in _COLUMNS.items():
        found = attempts[column].astype(str)
        yield _fact(name, (text[:12] if column.endswith("digest") else text for text in found))
    versions = [json.loads(text) for text in attempts["versions"]]
    for name in dict.fromkeys(key for one in versions for key in one):
        yield _fact(name, (one.get(name, "unknown") for one in versions))


_COLUMNS = {
    "device": "device",
    "ranks": "world_size",
    "threads a rank": "threads",
    "host": "host",
    "code digest": "code_digest",
    "data digest": "data_digest",
    "initial weights": "weights_digest",
}


def _fact(name: str, values: Iterator[str]) -> Fact:
    return Fact(name, tuple(sorted(Counter(values).items())))
