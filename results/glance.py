"""A look at trials that are done, as short as it can be: what was read of them in full is remembered by their files.

The memory is a cache beside the trials, or on a person's own machine where nothing can be written there, and never the
truth: it speaks for a trial while identity, size and times of every record behind it are what they were, as git's index
does for files. Without it all is read again. Only trials that are done in a local storage are remembered; what is
failed, half done or at work is always read.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
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
        self._ahead: dict[str, _Read] = {}
        self.seen: dict[str, Glance] = {}
        """The trials looked at that are done, by id."""

    def look_ahead(self, trial_ids: Iterable[str]) -> None:
        """Read at once what is not remembered of many trials: their next `look` takes it from here."""
        if self._root is not None:
            known = {trial_id for memory in self._known for trial_id in memory}
            self._ahead = read_each(self._storage, self._read, set(trial_ids) - known, is_pure=True)

    def look(self, trial_id: str) -> tuple[TrialState, Glance | None]:
        """The state of a trial, and a glance at it where it is done."""
        recalled = self._recall(trial_id)
        if recalled is not None:
            self.seen[trial_id] = recalled
            return TrialState("done", step=recalled.num_steps), recalled
        state, glance, mark = self._ahead.pop(trial_id) if trial_id in self._ahead else self._read(trial_id)
        if glance is None:
            self.seen.pop(trial_id, None)
            return state, None
        if mark is not None:
            seen = {field.name: getattr(glance, field.name) for field in fields(glance)}
            self._held[trial_id] = {"mark": mark, "seen": seen}
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
        return None if self._root is None else _mark(f"{self._root}/{trial_path(trial_id)}")

    def _read(self, trial_id: str) -> _Read:
        mark = self._mark(trial_id)  # before the records: what changes while they are read is read again
        state, result = read_trial(self._storage, trial_id)
        if result is None:
            return state, None, None
        manifests, damage = read_manifests(self._storage, trial_id)
        ended = next((manifest for manifest in manifests if manifest.attempt == result.attempt), None)
        glance = Glance(
            trial_id=trial_id,
            attempt=result.attempt,
            num_steps=result.num_steps,
            wall_seconds=result.wall_seconds,
            made_with=facts_of(self._storage, result) if damage else made_with(result, ended),
            attempts=attempts_of(self._storage, manifests, result, ()),
        )
        return state, glance, None if damage else mark

    def remember(self) -> None:
        """Keep what is new for the next look; of two that write at once the last one stays."""
        if self._root is None or not self._has_new:
            return
        trials = Path(self._root, "trials")
        known = {name: entry for memory in (*self._known, self._held) for name, entry in memory.items()}
        kept = {name: entry for name, entry in known.items() if (trials / name).exists()}
        body = json.dumps({"read_by": _readers(), "trials": kept}, separators=(",", ":")).encode()
        content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        for place, path in self._memories:
            with suppress(OSError):
                place.write(path, content)
                self._has_new = False
                return


def _recalled(seen: Mapping[str, Any]) -> Glance:
    return Glance(**{**seen, "attempts": tuple(Attempt(*values) for values in seen["attempts"])})


def _remembered(place: Storage, path: str) -> dict[str, Any]:
    """What was kept, if it is whole and was read by the code that reads now; else nothing."""
    with suppress(OSError, ValueError):
        seal, _, body = place.read(path).partition(b"\n")
        if seal == hashlib.sha256(body).hexdigest().encode():
            known = json.loads(body)
            return dict(known["trials"]) if known["read_by"] == _readers() else {}
    return {}


def _readers() -> str:
    """A digest of the code that says what a record is worth: another one reads for itself."""
    here = Path(__file__)
    room = here.parents[1] / "trainer"
    digest = hashlib.sha256()
    own = (here, here.with_name("reading.py"), here.with_name("staleness.py"))
    for path in (*sorted(room.glob("*.py")), *sorted(room.glob("spec/*.py")), *own):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


# --- marks --------------------------------------------------------------------------------------------------------


def _mark(trial: str) -> str | None:
    """A digest of what tells the records of a trial from others; None without a result, or where one is too young."""
    latest = time.time_ns() - _YOUNG_NS
    lines = []
    try:
        for name, stat in _records_of(trial):
            if stat.st_mtime_ns > latest or stat.st_ctime_ns > latest:
                return None
            lines.append((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    except OSError:
        return None
    return hashlib.sha256(repr(sorted(lines)).encode()).hexdigest()


def _records_of(trial: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file that a look at a done trial reads, by name; an attempt that left none of them says nothing."""
    yield "result.json", Path(trial, "result.json").stat()
    with os.scandir(f"{trial}/attempts") as attempts:
        for attempt in attempts:
            with os.scandir(attempt) as files:
                for file in files:
                    if file.name.endswith(".json") or file.name.startswith("ended-"):
                        yield f"{attempt.name}/{file.name}", file.stat()
