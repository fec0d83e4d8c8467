"""A look at trials that are done, as short as it can be: what was read of them in full is kept with their files' marks.

Whoever finishes a trial leaves a glance beside its records, and whoever looks remembers what it has seen of all trials,
beside them or on a person's own machine where nothing can be written there. A glance holds while every record behind it
is what it was: by identity, size and times, as git's index does for files, else (in a copy, say) byte for byte. All of
it is a cache and never the truth: without it all is read again. Only of trials that are done in a local storage is
anything kept; what is failed, half done or at work is always read.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain
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
"""A file changed less than two seconds before it was read may change again and its times not tell: its bytes count."""


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


_Kept = dict[str, Any]
"""A glance as it is kept: what was `seen`, and the `marks` of the records behind it by name."""


@dataclass(frozen=True, slots=True)
class _Read:
    """The state of a trial and a glance at it where it is done; `kept` where that may be, `is_new` if it is not yet."""

    state: TrialState
    glance: Glance | None
    kept: _Kept | None
    is_new: bool

    @classmethod
    def from_kept(cls, kept: _Kept, *, is_new: bool) -> "_Read":
        seen = kept["seen"]
        glance = Glance(**{**seen, "attempts": tuple(Attempt(*values) for values in seen["attempts"])})
        return cls(TrialState("done", step=glance.num_steps), glance, kept, is_new)


def leave_glance(storage: Storage, trial_id: str) -> None:
    """Leave a glance beside a trial that is done: the first look at a thousand need not check every count again.

    For whoever finishes a trial. It only saves time: there is none where it cannot be written, or storage is remote.
    """
    with suppress(OSError, ValueError):
        if storage.is_local:
            read = _read_in_full(storage, trial_id, _records_of(storage, trial_id))
            if read.kept is not None:
                storage.write(trial_path(trial_id, OWN), _to_keep(read.kept))


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
        self._held: dict[str, _Kept] = {}
        self._has_new = False
        self._ahead: dict[str, _Read] = {}
        self.seen: dict[str, Glance] = {}
        """The trials looked at that are done, by id."""

    def look_ahead(self, trial_ids: Iterable[str]) -> None:
        """Look at many trials, and open at once what has to be opened of them: their next `look` takes it from here."""
        if self._root is not None:
            unique = set(trial_ids)
            recalled = {name: found for name in unique if (found := self._recall(name)) is not None}
            rest = read_each(self._storage, self._read, unique - recalled.keys(), is_pure=True)
            self._ahead = recalled | rest

    def look(self, trial_id: str) -> tuple[TrialState, Glance | None]:
        """The state of a trial, and a glance at it where it is done."""
        read = self._ahead.pop(trial_id, None) or self._recall(trial_id) or self._read(trial_id)
        if read.glance is None:
            self.seen.pop(trial_id, None)
            return read.state, None
        if read.kept is not None:
            self._held[trial_id] = read.kept
            self._has_new |= read.is_new
        self.seen[trial_id] = read.glance
        return read.state, read.glance

    def _recall(self, trial_id: str) -> _Read | None:
        """What is remembered of a trial whose records are those of then, as is plain to see without opening one."""
        known = self._known_of(trial_id)
        records = _records_of(self._storage, trial_id) if known else {}
        fitting = (kept for kept in known if _fits(kept, records, opens=False))
        return next((_Read.from_kept(kept, is_new=False) for kept in fitting), None)

    def _read(self, trial_id: str) -> _Read:
        records = _records_of(self._storage, trial_id)
        for kept in chain(self._known_of(trial_id), self._left_of(trial_id)) if records else ():
            if _fits(kept, records, opens=True):
                marks = {name: _mark(record, kept["marks"][name][0]) for name, record in records.items()}
                return _Read.from_kept({**kept, "marks": marks}, is_new=True)
        return _read_in_full(self._storage, trial_id, records)

    def _known_of(self, trial_id: str) -> list[_Kept]:
        return [memory[trial_id] for memory in (self._held, *self._known) if trial_id in memory]

    def _left_of(self, trial_id: str) -> Iterator[_Kept]:
        """The glance that was left at a trial when it was finished, if any."""
        kept = None
        with suppress(OSError, ValueError):
            kept = _kept(self._storage.read(trial_path(trial_id, OWN)))
        if kept is not None and kept["seen"]["trial_id"] == trial_id:
            yield kept

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


def _read_in_full(storage: Storage, trial_id: str, records: Mapping[str, "_Record"]) -> _Read:
    """Read every record. `records` were found before: what changes in between is then not what was marked."""
    marks = {}
    with suppress(OSError):
        marks = {name: _mark(record, record.digest()) for name, record in records.items()}
    state, result = read_trial(storage, trial_id)
    if result is None:
        return _Read(state, None, None, is_new=False)
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
    seen = {field.name: getattr(glance, field.name) for field in fields(glance)}
    return _Read(state, glance, {"marks": marks, "seen": seen} if marks and not damage else None, is_new=True)


# --- what is kept -------------------------------------------------------------------------------------------------


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
    """The files of the rooms that say what a record is worth, and what a glance at it says."""
    here = Path(__file__).parent
    room = here.parent / "trainer"
    own = [here / f"{name}.py" for name in ("glance", "reading", "staleness")]
    read = [room / f"{name}.py" for name in ("consistency", "counts", "reading", "records", "seals")]
    return [*own, *read, *sorted(room.glob("spec/*.py"))]


# --- marks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Record:
    """A file that a look at a trial reads, as it was when it was found."""

    path: str
    stat: os.stat_result

    @property
    def place(self) -> list[int]:
        """What tells this file from another, or from itself before a change."""
        return [self.stat.st_ino, self.stat.st_size, self.stat.st_mtime_ns, self.stat.st_ctime_ns]

    def digest(self) -> str:
        """SHA-256 of its bytes. Raises: OSError where it is gone."""
        with Path(self.path).open("rb", buffering=0) as file:
            return hashlib.sha256(file.read()).hexdigest()


def _records_of(storage: Storage, trial_id: str) -> dict[str, _Record]:
    """Every file that a look at a done trial reads, by name; none of remote storage, and where there is no result.

    An attempt that left none of them says nothing.
    """
    if not storage.is_local:
        return {}
    trial = f"{storage.name}/{trial_path(trial_id)}"
    with suppress(OSError):
        result = Path(trial, "result.json")
        records = {"result.json": _Record(str(result), result.stat())}
        with os.scandir(f"{trial}/attempts") as attempts:
            for attempt in attempts:
                with os.scandir(attempt) as files:
                    for file in files:
                        if file.name.endswith(".json") or file.name.startswith("ended-"):
                            records[f"{attempt.name}/{file.name}"] = _Record(file.path, file.stat())
        return records
    return {}


def _mark(record: _Record, digest: str) -> list[Any]:
    """The digest of a file, and what tells it from others unopened; the digest alone of one that is young."""
    changed = max(record.stat.st_mtime_ns, record.stat.st_ctime_ns)
    return [digest] if changed > time.time_ns() - _YOUNG_NS else [digest, *record.place]


def _fits(kept: _Kept, records: Mapping[str, _Record], *, opens: bool) -> bool:
    """Whether these are the records of what was kept; `opens` those of which that is not plain to see."""
    marks = kept["marks"]
    with suppress(OSError):
        return marks.keys() == records.keys() and all(
            marks[name][1:] == record.place or (opens and marks[name][0] == record.digest())
            for name, record in records.items()
        )
    return False
