"""A look at trials that are done, as short as it can be: what was read of them in full is kept by their files.

Whoever finishes a trial leaves a glance beside its records, which holds while every record behind it is byte for byte
what it was. Whoever looks remembers what it has seen of all trials, beside them or on a person's own machine where
nothing can be written there, which holds while identity, size and times of these records are what they were, as git's
index does for files. Both are caches and never the truth: without them all is read again. Only of trials that are done
in a local storage is anything kept; what is failed, half done or at work is always read.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from results.reading import Attempt, attempts_of
from results.staleness import facts_of, made_with
from trainer.reading import TrialState, read_manifests, read_trial
from trainer.records import trial_path
from trainer.side_by_side import read_each
from trainer.storage import Storage

MEMORY = "glances.json"
"""What is remembered of a storage, in the storage."""
OWN = "glance.json"
"""What whoever finished a trial left of it, in the trial's folder."""
_YOUNG_NS = 2 * 10**9
"""A file changed less than two seconds ago may change again without its times telling: it is not remembered."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a trial that is done says in few words.

    `attempt` ended it, after `num_steps` updates and `wall_seconds` in all; `made_with` are the digests and versions
    that `results.staleness` compares; `attempts` are all of them, oldest first.
    """

    trial_id: str
    attempt: str
    num_steps: int
    wall_seconds: float
    made_with: Mapping[str, str]
    attempts: tuple[Attempt, ...]

    @property
    def ran_on(self) -> tuple[str, int] | None:
        """Device and number of ranks of the attempt that ended it; None where its manifest is not there."""
        return next(((a.device, a.world_size) for a in self.attempts if a.attempt == self.attempt), None)


_Read = tuple[TrialState, Glance | None, str | None]
"""The state of a trial, a glance at it where it is done, and the mark of its files where that may be remembered."""


def leave_glance(storage: Storage, trial_id: str) -> None:
    """Leave a glance beside a trial that is done: the first look at a thousand need not check every count again.

    For whoever finishes a trial. It only saves time: there is none where it cannot be written, or storage is remote.
    """
    with suppress(OSError, ValueError):
        if storage.is_local:
            content = _content(_records_of(_folder(storage, trial_id)))  # before they are read: see Glances._read
            _, glance, is_whole = _read_in_full(storage, trial_id)
            if glance is not None and is_whole:
                storage.write(trial_path(trial_id, OWN), _to_keep({"content": content, "seen": _in_words(glance)}))


class Glances:
    """Looks at trials of one storage, each at most once. Threads may ask at once.

    Args:
        folder: where this machine remembers (`--cache`) what it has read of a storage that it cannot write to; one that
            cannot be written either only costs time.
    """

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._root = storage.name if storage.is_local else None
        own = f"glances/{hashlib.sha256(storage.name.encode()).hexdigest()[:16]}.json"
        self._memories = ((storage, MEMORY), (Storage(str(folder)), own)) if storage.is_local else ()
        self._known = [_remembered(place, path) for place, path in self._memories]
        self._held: dict[str, Any] = {}
        self._has_new = False
        self._recalled: dict[str, Glance] = {}
        self._ahead: dict[str, _Read] = {}
        self.seen: dict[str, Glance] = {}
        """The trials looked at that are done, by id."""

    def look_ahead(self, trial_ids: Iterable[str]) -> None:
        """Look at many trials, and read at once what is not remembered: their next `look` takes it from here."""
        if self._root is not None:
            unique = set(trial_ids)
            self._recalled = {name: found for name in unique if (found := self._recall(name)) is not None}
            self._ahead = read_each(self._storage, self._read, unique - self._recalled.keys(), is_pure=True)

    def look(self, trial_id: str) -> tuple[TrialState, Glance | None]:
        """The state of a trial, and a glance at it where it is done."""
        recalled = self._recalled.pop(trial_id, None)
        if recalled is None and trial_id not in self._ahead:
            recalled = self._recall(trial_id)
        if recalled is not None:
            self.seen[trial_id] = recalled
            return TrialState("done", step=recalled.num_steps), recalled
        state, glance, mark = self._ahead.pop(trial_id) if trial_id in self._ahead else self._read(trial_id)
        if glance is None:
            self.seen.pop(trial_id, None)
            return state, None
        if mark is not None:
            self._held[trial_id] = {"mark": mark, "seen": _in_words(glance)}
            self._has_new = True
        self.seen[trial_id] = glance
        return state, glance

    def _recall(self, trial_id: str) -> Glance | None:
        """What is remembered of a trial whose files are those of then."""
        known = [memory[trial_id] for memory in (self._held, *self._known) if trial_id in memory]
        mark = self._mark(trial_id) if known else None
        for entry in known:
            if entry["mark"] == mark:
                self._held[trial_id] = entry
                return _recalled(entry["seen"])
        return None

    def _mark(self, trial_id: str) -> str | None:
        with suppress(OSError):
            return None if self._root is None else _mark(_records_of(_folder(self._storage, trial_id)))
        return None

    def _read(self, trial_id: str) -> _Read:
        records: list[_Record] = []
        with suppress(OSError):
            # Before they are read: what changes in between is read again the next time.
            records = [] if self._root is None else _records_of(_folder(self._storage, trial_id))
        own = self._own(trial_id, records)
        if own is not None:
            return TrialState("done", step=own.num_steps), own, _mark(records)
        state, glance, is_whole = _read_in_full(self._storage, trial_id)
        return state, glance, _mark(records) if is_whole else None

    def _own(self, trial_id: str, records: Sequence["_Record"]) -> Glance | None:
        """The glance that was left of a trial when it was finished, where it is of these very records."""
        with suppress(OSError, ValueError):
            if records:
                kept = _kept(self._storage.read(trial_path(trial_id, OWN)))
                if kept["seen"]["trial_id"] == trial_id and kept["content"] == _content(records):
                    return _recalled(kept["seen"])
        return None

    def remember(self) -> None:
        """Keep what is new for the next look; of two that write at once the last one stays."""
        if self._root is None or not self._has_new:
            return
        trials = Path(self._root, "trials")
        known = {name: entry for memory in (*self._known, self._held) for name, entry in memory.items()}
        kept = {name: entry for name, entry in known.items() if (trials / name).exists()}
        content = _to_keep({"trials": kept})
        for place, path in self._memories:
            with suppress(OSError):
                place.write(path, content)
                self._has_new = False
                return


def _read_in_full(storage: Storage, trial_id: str) -> tuple[TrialState, Glance | None, bool]:
    """The state of a trial, a glance at it where it is done, and whether every record behind that could be read."""
    state, result = read_trial(storage, trial_id)
    if result is None:
        return state, None, False
    manifests, damage = read_manifests(storage, trial_id)
    ended = next((manifest for manifest in manifests if manifest.attempt == result.attempt), None)
    glance = Glance(
        trial_id=trial_id,
        attempt=result.attempt,
        num_steps=result.num_steps,
        wall_seconds=result.wall_seconds,
        made_with=facts_of(storage, result) if damage else made_with(result, ended),
        attempts=attempts_of(storage, manifests, result, ()),
    )
    return state, glance, not damage


# --- what is kept -------------------------------------------------------------------------------------------------


def _in_words(glance: Glance) -> dict[str, Any]:
    return {field.name: getattr(glance, field.name) for field in fields(glance)}


def _recalled(seen: Mapping[str, Any]) -> Glance:
    return Glance(**{**seen, "attempts": tuple(Attempt(*values) for values in seen["attempts"])})


def _to_keep(known: Mapping[str, Any]) -> bytes:
    body = json.dumps({**known, "read_by": _readers()}, separators=(",", ":")).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _kept(content: bytes) -> dict[str, Any]:
    """What was kept. Raises: ValueError where it is not whole, or was read by other code than reads now."""
    seal, _, body = content.partition(b"\n")
    if seal != hashlib.sha256(body).hexdigest().encode():
        raise ValueError("what was kept is not whole")
    known = dict(json.loads(body))
    if known["read_by"] != _readers():
        raise ValueError("other code reads for itself")
    return known


def _remembered(place: Storage, path: str) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(_kept(place.read(path))["trials"])
    return {}


@cache
def _readers() -> str:
    """A digest of the code that says what a record is worth."""
    digest = hashlib.sha256()
    for path in code_that_reads():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def code_that_reads() -> list[Path]:
    """The files of the rooms that a look goes through, and no other: what trains may change without a look at all."""
    here = Path(__file__).parent
    room = here.parent / "trainer"
    own = [here / f"{name}.py" for name in ("__init__", "glance", "reading", "staleness")]
    return [*own, *(room / f"{name}.py" for name in _READING), *sorted(room.glob("spec/*.py"))]


_READING = (
    *("__init__", "code", "consistency", "counts", "reading", "records", "remote", "seals", "side_by_side", "storage"),
)


# --- marks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Record:
    """A file that a look at a trial reads, by its name in the trial's folder, as it was when it was found."""

    name: str
    path: str
    stat: os.stat_result


def _folder(storage: Storage, trial_id: str) -> str:
    return f"{storage.name}/{trial_path(trial_id)}"


def _records_of(trial: str) -> list[_Record]:
    """Every file that a look at a done trial reads, by name; an attempt that left none of them says nothing.

    Raises: OSError where there is no result.
    """
    result = Path(trial, "result.json")
    records = [_Record("result.json", str(result), result.stat())]
    with os.scandir(f"{trial}/attempts") as attempts:
        for attempt in attempts:
            with os.scandir(attempt) as files:
                for file in files:
                    if file.name.endswith(".json") or file.name.startswith("ended-"):
                        records.append(_Record(f"{attempt.name}/{file.name}", file.path, file.stat()))
    return sorted(records, key=lambda record: record.name)


def _mark(records: Iterable[_Record]) -> str | None:
    """A digest of what tells these files from others without opening them; None where there is none, or a young one."""
    latest = time.time_ns() - _YOUNG_NS
    lines = []
    for name, stat in ((record.name, record.stat) for record in records):
        if stat.st_mtime_ns > latest or stat.st_ctime_ns > latest:
            return None
        lines.append((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return hashlib.sha256(repr(lines).encode()).hexdigest() if lines else None


def _content(records: Iterable[_Record]) -> str:
    """A digest of every byte of these files. Raises: OSError where one is gone."""
    digest = hashlib.sha256()
    for record in records:
        with Path(record.path).open("rb", buffering=0) as file:
            content = file.read()
        digest.update(f"{record.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
