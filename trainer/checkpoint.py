"""Writes, verifies, prunes and finds checkpoints, the same under Ray, torchrun and Slurm.

A checkpoint is a folder of an attempt with `state.pt` and, written last, `commit.json`: its seal. Only a sealed one
whose files have their sealed digests counts; a damaged one falls back to the one before, and says so.
"""

import hashlib
import io
import logging
from collections.abc import Sequence
from typing import Any

import torch

from trainer.reading import (
    checkpoint_folders,
    find_commits,
    read_segments,
)
from trainer.records import (
    Commit,
    DamagedRecord,
    FileSeal,
    attempt_path,
    checkpoint_name,
)
from trainer.storage import Storage

_LOG = logging.getLogger("mixgrid.checkpoint")
_STATE = "state.pt"
_KEPT = 2


def to_bytes(state: Any) -> bytes:
    """Serialise tensors, numbers, strings and containers of them."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> Any:
    """Read what `to_bytes` wrote, onto the CPU. A file with code in it is refused (weights_only)."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def seal_of(content: bytes) -> FileSeal:
    """Length and digest of a file's content."""
    return FileSeal(num_bytes=len(content), sha256_of_file=hashlib.sha256(content).hexdigest())


def write_state(storage: Storage, trial_id: str, attempt: str, step: int, state: Any) -> dict[str, FileSeal]:
    """Write the state of a checkpoint; it does not count before `seal_checkpoint`."""
    content = to_bytes(state)
    storage.write(attempt_path(trial_id, attempt, checkpoint_name(step), _STATE), content)
    return {_STATE: seal_of(content)}


def seal_checkpoint(storage: Storage, commit: Commit) -> None:
    """Write the marker that makes the checkpoint count."""
    path = attempt_path(commit.trial_id, commit.attempt, checkpoint_name(commit.step), "commit.json")
    storage.write(path, commit.sealed())


def read_state(storage: Storage, commit: Commit) -> Any:
    """Read the state of a sealed checkpoint. Raises: DamagedRecord where it is gone or its digest does not fit."""
    path = attempt_path(commit.trial_id, commit.attempt, checkpoint_name(commit.step), _STATE)
    try:
        content = storage.read(path)
    except FileNotFoundError as error:
        raise DamagedRecord(f"{storage.locate(path)} is gone") from error
    if _STATE not in commit.files or seal_of(content) != commit.files[_STATE]:
        raise DamagedRecord(f"{storage.locate(path)} was changed after it was written")
    try:
        return from_bytes(content)
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        raise DamagedRecord(f"{storage.locate(path)} holds more than tensors, numbers and words: not loaded") from error


def newest_checkpoint(storage: Storage, trial_id: str) -> tuple[Commit, Any] | None:
    """The newest valid checkpoint over all attempts and its state; damaged ones are passed over with a warning.

    Valid means that its state and every record of the history behind it are what was written, up to its step. Another
    attempt may go on meanwhile and remove what we have just found: there is none only where two looks see the same.
    """
    refused: set[tuple[str, int]] = set()
    seen: list[tuple[str, str]] | None = None
    while True:
        before, seen = seen, checkpoint_folders(storage, trial_id)
        commits = (commit for commit in find_commits(storage, trial_id) if (commit.attempt, commit.step) not in refused)
        commit = next(commits, None)
        if commit is None and seen == before:
            return None
        if commit is not None:
            try:
                return commit, _verified_state(storage, commit)
            except DamagedRecord as error:
                _LOG.warning("checkpoint after step %d is not used: %s", commit.step, error)
                refused.add((commit.attempt, commit.step))


def _verified_state(storage: Storage, commit: Commit) -> Any:
    for record in read_segments(storage, commit.trial_id, commit.segments):
        if record.step > commit.step:
            raise DamagedRecord(f"its history goes on to step {record.step}")
    return read_state(storage, commit)


def prune(storage: Storage, trial_id: str, attempt: str, committed: Sequence[int]) -> list[int]:
    """Keep the newest two checkpoints of this attempt, and of older attempts none that they make useless.

    Older ones go first: who looks meanwhile never finds an old one where a newer one has just gone.

    Returns: those of `committed` that stay.
    """
    kept = list(committed[-_KEPT:])
    for step in committed[:-_KEPT]:
        _remove(storage, trial_id, attempt, step)
    if len(kept) == _KEPT:
        for commit in reversed(find_commits(storage, trial_id)):
            if commit.attempt < attempt and commit.step <= kept[0]:
                _remove(storage, trial_id, commit.attempt, commit.step)
    return kept


def _remove(storage: Storage, trial_id: str, attempt: str, step: int) -> None:
    folder = attempt_path(trial_id, attempt, checkpoint_name(step))
    storage.remove(f"{folder}/commit.json")
    storage.remove(folder)
