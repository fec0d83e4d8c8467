"""Finds and removes what no number rests on and no trial needs. Knows storage alone."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from orchestrator.lease import Lease, live_drivers
from trainer.reading import (
    find_commits,
    find_previews,
    read_result,
    read_superseded,
)
from trainer.records import (
    Commit,
    DamagedRecord,
    Manifest,
    Result,
    attempt_path,
    checkpoint_name,
    trial_path,
)
from trainer.storage import Storage

Kind = Literal["checkpoint", "labels of a round", "metric records", "picture", "weights", "draft", "driver", "scratch"]
# As many as training itself keeps: the newest, and one to fall back to.
_KEPT_COMMITS = 2


@dataclass(frozen=True, slots=True)
class Waste:
    """A file or folder that nobody needs, and why it is there."""

    kind: Kind
    path: str


def prune(storage: Storage, *, dry_run: bool) -> Iterator[Waste]:
    """Find, and unless it is a dry run remove, what is left over. Trials that a live driver holds are not touched.

    Trials are held meanwhile, so that no driver begins one under our hands. Nothing that a result names goes, be it set
    aside, nor logs, manifests, endings and kept weights; of half-done trials the newest two checkpoints that can be
    read stay, with the records behind them. Pictures stay with the records of their steps.
    """
    with Lease(storage, "prune", storage.names("trials")) as lease:
        for trial_id in sorted(lease.trial_ids):
            yield from _removed(storage, _waste_of_trial(storage, trial_id), dry_run)
        yield from _removed(storage, _waste_of_drivers(storage), dry_run)
    storage.remove(f"drivers/{lease.name}.json")


def forget(storage: Storage, trial_id: str) -> None:
    """Remove what a half-done trial left, so that it starts anew; results that were set aside stay with their records.

    Raises: OSError where something cannot be removed; what is left is then a half-done trial still.
    """
    superseded, damage = read_superseded(storage, trial_id)
    if not superseded and not damage:
        storage.remove(trial_path(trial_id))
        return
    kept = {result.attempt for result in superseded} | {s.attempt for result in superseded for s in result.segments}
    for attempt in storage.names(trial_path(trial_id, "attempts")):
        if attempt not in kept and not damage:
            storage.remove(attempt_path(trial_id, attempt))
        for name in storage.names(attempt_path(trial_id, attempt)):
            if name.startswith("checkpoint-"):
                storage.remove(attempt_path(trial_id, attempt, name))
    for name in ("labels", "result.json", "failure.json"):
        storage.remove(trial_path(trial_id, name))


def _removed(storage: Storage, found: Iterable[Waste], dry_run: bool) -> Iterator[Waste]:
    for waste in found:
        if not dry_run:
            storage.remove(waste.path)
        yield waste


def _waste_of_trial(storage: Storage, trial_id: str) -> Iterator[Waste]:
    result: Result | None = None
    with suppress(DamagedRecord):
        result = read_result(storage, trial_id)
    commits = find_commits(storage, trial_id)
    if result is None:
        kept = _newest_readable(storage, commits)
        histories = [commit.segments for commit in kept]
    else:
        kept = commits if _keeps_checkpoints(storage, result) else []
        histories = [result.segments]
    histories += [old.segments for old in read_superseded(storage, trial_id)[0]]
    checkpoints = {(commit.attempt, checkpoint_name(commit.step)) for commit in kept}
    named = {(segment.attempt, segment.file) for history in histories for segment in history}
    pictures = {path for history in histories for path in find_previews(storage, trial_id, history).values()}
    yield from _drafts(storage, trial_path(trial_id))
    yield from _drafts(storage, trial_path(trial_id, "labels"))
    if result is not None and result.weights_sha256 is None and storage.exists(trial_path(trial_id, "weights.pt")):
        yield Waste("weights", trial_path(trial_id, "weights.pt"))  # of a result that was set aside
    if result is not None and not kept:
        yield from _labels(storage, trial_path(trial_id, "labels"))
    for attempt in storage.names(trial_path(trial_id, "attempts")):
        folder = attempt_path(trial_id, attempt)
        yield from _drafts(storage, folder)
        for name in storage.names(folder):
            path = f"{folder}/{name}"
            if name.startswith("checkpoint-") and (attempt, name) not in checkpoints:
                yield Waste("checkpoint", path)
            elif name.startswith("checkpoint-"):
                yield from _drafts(storage, path)
            elif name.startswith("metrics-") and (attempt, name) not in named:
                yield Waste("metric records", path)
            elif name.startswith("preview-") and path not in pictures:
                yield Waste("picture", path)


def _drafts(storage: Storage, folder: str) -> Iterator[Waste]:
    for name in storage.names(folder):
        if name.startswith(".") and name.endswith(".part"):
            yield Waste("draft", f"{folder}/{name}")


def _labels(storage: Storage, folder: str) -> Iterator[Waste]:
    """Label maps that a finished trial needs no more; their markers say what they were."""
    for name in storage.names(folder):
        if name.endswith(".arrow"):
            yield Waste("labels of a round", f"{folder}/{name}")


def _keeps_checkpoints(storage: Storage, result: Result) -> bool:
    with suppress(DamagedRecord):
        manifest = Manifest.find(storage, attempt_path(result.trial_id, result.attempt, "manifest.json"))
        return manifest is None or manifest.options.get("keep") == "checkpoints"
    return True


def _newest_readable(storage: Storage, commits: Iterable[Commit]) -> list[Commit]:
    kept: list[Commit] = []
    for commit in commits:
        if len(kept) < _KEPT_COMMITS and _is_whole(storage, commit):
            kept.append(commit)
    return kept


def _is_whole(storage: Storage, commit: Commit) -> bool:
    """Whether a checkpoint's files are what its seal says."""
    for name, seal in commit.files.items():
        try:
            content = storage.read(attempt_path(commit.trial_id, commit.attempt, checkpoint_name(commit.step), name))
        except FileNotFoundError:
            return False
        if hashlib.sha256(content).hexdigest() != seal.sha256_of_file:
            return False
    return True


def _waste_of_drivers(storage: Storage) -> Iterator[Waste]:
    living = {record.driver for record in live_drivers(storage)}
    for name in storage.names("drivers"):
        driver = name.removesuffix(".json").removesuffix(".stop")
        if driver not in living:
            yield Waste("driver", f"drivers/{name}")
    for name in storage.names("scratch"):
        if name not in living:
            yield Waste("scratch", f"scratch/{name}")
    for name in storage.names("clock"):
        yield Waste("scratch", f"clock/{name}")
