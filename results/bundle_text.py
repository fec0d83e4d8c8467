"""What a bundle says of itself, and what its records say of machines and persons: told, or withheld."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.records import (
    Acceptance,
    DamagedRecord,
    Ending,
    Failure,
    Manifest,
    Record,
)

WITHHELD = "withheld"
_REST = r"[^\s:,;'\"()]*"
_PATH = re.compile(rf"(?<![\w.])/[^\s/:,;'\"()]{_REST}")
_README = """# {title}

The table `{name}` of mixgrid with what it stands on: {num_done} of {num_trials} trials are done.

## Draw it again

In this folder, without a network, a GPU, torch or Ray:

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python -m results.redraw

It reads `records/` alone, draws every file of `printed/` again into `redrawn/`, and says "identical" or what differs.
Every IoU is checked against its confusion matrix when it is read. `sha256sum -c {sums}` checks the archive itself.

## What is here

- `records/trials/ID/`: per trial its spec, `result.json` (every evaluation with its confusion matrix, digests of code,
  images, split and weights), failures, what was accepted or set aside, and per attempt the manifest (versions, device,
  labelled names). Each record carries the SHA-256 of its own content. Weights, checkpoints, pictures and the training
  losses stay with their authors.
- `table.json`: rows, fractions, seeds and the spec of every cell; which cells were training, and what was stale.
- `printed/`: the table as it was printed.
- `trainer/`, `results/`: the part of mixgrid that redraws, as it was when this was made.
- `requirements.txt`: what that part needs. `environment.txt`: the releases that mixgrid ran with where this was made;
  what a trial ran with is in its manifests.

## What it reveals

{reveals}
"""


@dataclass(frozen=True, slots=True)
class Revealed:
    """What records say of machines and persons."""

    hosts: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    persons: frozenset[str] = frozenset()

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each kind of thing that is said."""
        said = (
            ("hosts", self.hosts, "manifests name the machines"),
            ("folders", self.folders, "manifests name folders, and with them perhaps users"),
            ("persons", self.persons, "records of what was accepted name"),
        )
        return tuple(f"{words}: {', '.join(sorted(found))}" for _, found, words in said if found)


def readme(*, name: str, title: str, num_done: int, num_trials: int, sums: str, reveals: str) -> str:
    """The README of a bundle."""
    return _README.format(name=name, title=title, num_done=num_done, num_trials=num_trials, sums=sums, reveals=reveals)


def told(found: Revealed, *, is_anonymous: bool) -> str:
    """What a bundle says of what it reveals."""
    if is_anonymous:
        return (
            "Hosts, processes, folders, persons and traces of errors are withheld. The records that held them\n"
            "(manifests, endings, failures, what was accepted) were changed and sealed anew; results and specs are as\n"
            "they were written. Times stay."
        )
    lines = "\n".join(f"- {line}" for line in found.lines) or "- no machine and no person"
    return f"{lines}\n\nTraces of errors may name more. `mixgrid bundle --anonymous` withholds all of this."


# --- looking at records -------------------------------------------------------------------------------------------


def revealed(records: Mapping[str, bytes]) -> Revealed:
    """What records say of machines and persons, where they can be read."""
    opened = [record for path, content in records.items() if (record := _opened(path, content)) is not None]
    manifests = [record for record in opened if isinstance(record, Manifest)]
    places = (str(value) for record in manifests for value in record.options.values() if isinstance(value, str))
    accepted = (change for record in opened if isinstance(record, Acceptance) for change in record.changes)
    return Revealed(
        hosts=frozenset(host for record in manifests for host in _hosts_of(record)) - {WITHHELD},
        folders=frozenset(place for place in places if place.startswith("/") or "://" in place),
        persons=frozenset(change.by for change in accepted) - {WITHHELD},
    )


def _hosts_of(manifest: Manifest) -> set[str]:
    """The names and addresses of every rank's host."""
    return {manifest.host, *(word for text in manifest.rank_hosts for word in re.findall(r"[^\s()]+", text))}


def withheld(records: Mapping[str, bytes]) -> dict[str, bytes]:
    """Records without what they say of machines and persons; a record of such a kind that cannot be read is emptied."""
    found = revealed(records)
    words = sorted(found.hosts | found.folders | found.persons, key=len, reverse=True)
    patterns = [*(re.compile(rf"(?<!\w){re.escape(word)}{_REST}") for word in words), _PATH]

    def without(text: str) -> str:
        for pattern in patterns:
            text = pattern.sub(WITHHELD, text)
        return text

    return {path: _withheld(path, content, without) for path, content in records.items()}


def _withheld(path: str, content: bytes, without: Callable[[str], str]) -> bytes:
    kind = _kind_of(path)
    if kind is None:
        return content
    record = _opened(path, content)
    return b"withheld: it could not be read\n" if record is None else _redacted(record, without).sealed()


def _redacted(record: Record, without: Callable[[str], str]) -> Record:
    if isinstance(record, Manifest):
        return record.model_copy(update={"host": WITHHELD, "pid": 0, "rank_hosts": (), "options": {}})
    if isinstance(record, Ending | Failure):
        return record.model_copy(update={"message": without(record.message), "trace_tail": ""})
    assert isinstance(record, Acceptance)
    changes = (c.model_copy(update={"by": WITHHELD, "why": without(c.why)}) for c in record.changes)
    return record.model_copy(update={"changes": tuple(changes)})


def _opened(path: str, content: bytes) -> Record | None:
    kind = _kind_of(path)
    try:
        return None if kind is None else kind.opened(content, where=path)
    except DamagedRecord:
        return None


def _kind_of(path: str) -> type[Manifest | Ending | Failure | Acceptance] | None:
    """The kind of a record that may name a machine or a person, by the name of its file."""
    name = path.rpartition("/")[2]
    return next((kind for word, kind in _KINDS if name.startswith(word)), None)


_KINDS: tuple[tuple[str, Any], ...] = (
    ("manifest.json", Manifest),
    ("ended-", Ending),
    ("failure.json", Failure),
    ("accepted.json", Acceptance),
)
