"""What has changed since a trial was done: its code, images, split, weights or libraries against those of a machine.

Loads neither pandas nor torch, and knows no format. What a machine cannot look at was not checked and makes nothing
stale; what a person has accepted does not count until it changes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

from trainer.code import changed_files
from trainer.reading import read_accepted, read_brief
from trainer.records import (
    AcceptedChange,
    DamagedRecord,
    Finished,
    Manifest,
    attempt_path,
)
from trainer.spec import TrialSpec
from trainer.storage import Storage

if TYPE_CHECKING:
    from results.frame import CellLike, TableLike

DIGESTS = ("code", "data", "split", "weights")
LIBRARIES = ("torch", "numpy", "pillow", "python", "cuda")
_SHORT = 12
_MOST_FILES = 3


class HereLike(Protocol):
    """What is asked of a machine: by name, the digests and versions that it has for a spec and can look at."""

    def facts(self, spec: TrialSpec) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is not what it was."""

    name: str
    before: str
    now: str
    files: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The change in a few words."""
        return f"{self.name} {_short(self.before)} -> {_short(self.now)}{_named(self.files)}"


@dataclass(frozen=True, slots=True)
class Freshness:
    """A result of an attempt against a machine: what makes it stale, what was accepted, what could not be checked."""

    attempt: str
    changes: tuple[Change, ...]
    accepted: tuple[Change, ...]
    unchecked: tuple[str, ...]

    @property
    def text(self) -> str:
        """What makes the result stale; empty where nothing does."""
        return "; ".join(change.text for change in self.changes)


def find_stale(storage: Storage, table: TableLike, here: HereLike, *, num_threads: int = 8) -> dict[str, str]:
    """By trial id, what has changed since a trial was done; the trials that are stale alone."""
    cells: dict[str, CellLike] = {cell.trial_id: cell for cell in table.cells()}
    files_of = cache(partial(changed_files, storage))

    def look(trial_id: str) -> str:
        with suppress(DamagedRecord):
            result = read_brief(storage, trial_id)
            return "" if result is None else judge(storage, cells[trial_id].spec, result, here, files_of).text
        return ""

    with ThreadPoolExecutor(num_threads) as pool:
        found = dict(zip(cells, pool.map(look, cells), strict=True))
    return {trial_id: text for trial_id, text in found.items() if text}


FilesOf = Callable[[str], tuple[str, ...]]
"""The files that changed since the code of a digest."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the result of an attempt was made with: digests and versions by name."""

    trial_id: str
    attempt: str
    made_with: Mapping[str, str]


class MadeLike(Protocol):
    """What is asked of whatever says what a result was made with."""

    @property
    def trial_id(self) -> str: ...
    @property
    def attempt(self) -> str: ...
    @property
    def made_with(self) -> Mapping[str, str]: ...


def judge(
    storage: Storage, spec: TrialSpec, result: Finished, here: HereLike, files_of: FilesOf | None = None
) -> Freshness:
    """Compare what a result was made with and what a machine has; as `compare`."""
    made = Made(result.trial_id, result.attempt, facts_of(storage, result))
    return compare(storage, spec, made, here, files_of)


def compare(
    storage: Storage, spec: TrialSpec, made: MadeLike, here: HereLike, files_of: FilesOf | None = None
) -> Freshness:
    """Compare what a result was made with and what a machine has.

    Args:
        files_of: the files that changed since the code of a digest; else storage is asked.
    """
    before, facts = made.made_with, here.facts(spec)
    told = files_of or partial(changed_files, storage)
    differing = [
        Change(name, then, facts[name], told(then) if name == "code" else ())
        for name, then in before.items()
        if name in facts and _differ(name, then, facts[name])
    ]
    accepted = _accepted(differing, read_accepted(storage, made.trial_id) if differing else (), made.attempt)
    return Freshness(
        attempt=made.attempt,
        changes=tuple(change for change in differing if change not in accepted),
        accepted=accepted,
        unchecked=tuple(name for name in before if name not in facts),
    )


def facts_of(storage: Storage, result: Finished) -> dict[str, str]:
    """The digests that a result names, and the versions of the attempt that ended it, where its manifest is there.

    CUDA's is none of them where the trial ran on a CPU.
    """
    manifest = None
    with suppress(DamagedRecord):
        manifest = Manifest.find(storage, attempt_path(result.trial_id, result.attempt, "manifest.json"))
    return made_with(result, manifest)


def made_with(result: Finished, manifest: Manifest | None) -> dict[str, str]:
    """As `facts_of`, of the manifest of the attempt that ended the trial."""
    digests = {name: getattr(result.digests, name) for name in DIGESTS}
    return digests if manifest is None else digests | dict(_versions(manifest))


def _versions(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        ran_without = name == "cuda" and manifest.device.startswith("cpu")
        if name in manifest.versions and not ran_without:
            yield name, manifest.versions[name]


def _differ(name: str, before: str, now: str) -> bool:
    """Whether the releases, or digests, are not the same. A machine without CUDA says nothing of CUDA's."""
    if before == now or (name == "cuda" and "none" in (before, now)):
        return False
    return _release(name, before) != _release(name, now)


def _release(name: str, version: str) -> str:
    """The part of a version that counts: torch's without its build (+cpu), Python's minor release (3.11)."""
    if name == "torch":
        return version.partition("+")[0]
    return ".".join(version.split(".")[:2]) if name == "python" else version


def _accepted(differing: list[Change], entries: tuple[AcceptedChange, ...], attempt: str) -> tuple[Change, ...]:
    facts = [entry.facts for entry in entries if entry.attempt == attempt]
    return tuple(change for change in differing if any(fact.get(change.name) == change.now for fact in facts))


def _short(value: str) -> str:
    """A digest by its first digits; anything else as it is."""
    return value[:_SHORT] if len(value) == 64 else value


def _named(files: tuple[str, ...]) -> str:
    """At most three files, and how many more."""
    more = f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
    return f" ({', '.join(files[:_MOST_FILES])}{more})" if files else ""
