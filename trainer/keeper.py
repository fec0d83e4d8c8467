"""Makes an attempt's progress safe in storage: the Keeper that `run.py` gives the loop."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from trainer.checkpoint import prune, seal_checkpoint, write_state
from trainer.data.pool_labels import PoolLabels
from trainer.distributed import rank, world_size
from trainer.journal import Journal, ScalarWindow
from trainer.records import (
    Commit,
    Digests,
    attempt_path,
    preview_name,
    trial_path,
    write_segment,
)
from trainer.rounds import labels_of_round, remove_labels
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage
from trainer.trial import Keeper, Trial
from trainer.trial_preview import preview_png

_LOG = logging.getLogger("mixgrid")


class Owner(Protocol):
    """What a keeper needs of the attempt it keeps."""

    spec: TrialSpec
    options: RunOptions
    storage: Storage
    name: str
    step: int

    def write_log(self) -> None:
        """Write the log so far."""


class StorageKeeper(Keeper):
    """Commits to storage: segment, state, seal, in that order; only then do the records count."""

    def __init__(
        self,
        attempt: Owner,
        trial: Trial,
        digests: Digests,
        started: float,
        parent: Commit | None,
        journal: Journal,
    ) -> None:
        super().__init__(journal, ScalarWindow())
        self.digests = digests
        self.parent = parent
        self.step = 0 if parent is None else parent.step
        self._attempt = attempt
        self._trial = trial
        self._started = started
        self._committed: list[int] = []

    def wall_seconds(self) -> float:
        """Seconds spent on this history so far, earlier attempts included."""
        return time.monotonic() - self._started + (self.parent.wall_seconds if self.parent else 0.0)

    def commit(self, step: int) -> None:
        """Write a checkpoint after `step` updates; rank 0 writes, since every rank holds the same state."""
        self.alive()
        self.step = self._attempt.step = step
        if rank() != 0:
            return
        attempt, storage, trial_id = self._attempt, self._attempt.storage, self._attempt.spec.trial_id
        segment = write_segment(
            storage, trial_id=trial_id, attempt=attempt.name, step=step, records=self.journal.pending
        )
        self.journal.committed(segment)
        state = {"trial": self._trial.state_dict(), "window": self.window.state_dict()}
        files = write_state(storage, trial_id, attempt.name, step, state)
        commit = Commit(
            trial_id=trial_id,
            attempt=attempt.name,
            step=step,
            time=time.time(),
            digests=self.digests,
            world_size=world_size(),
            wall_seconds=self.wall_seconds(),
            files=files,
            segments=tuple(self.journal.segments),
        )
        seal_checkpoint(storage, commit)
        self._committed.append(step)
        self._committed = prune(storage, trial_id, attempt.name, self._committed)
        attempt.write_log()

    def draw(self, step: int) -> None:
        """Write a picture of the networks; whatever keeps it from being drawn or written is said and not raised."""
        if rank() != 0 or not self._attempt.options.previews:
            return
        try:
            png = preview_png(self._trial, step)
            self._attempt.storage.write(
                attempt_path(self._trial.spec.trial_id, self._attempt.name, preview_name(step)), png
            )
        except Exception as error:  # a picture is no reason to lose a trial
            _LOG.warning("no picture after step %d: %s: %s", step, type(error).__name__, error)
        self.alive()

    def labels_of_round(self, step: int, make: Callable[[], PoolLabels]) -> PoolLabels:
        """Those kept in storage, else made now and kept."""
        return labels_of_round(
            self._attempt.storage,
            trial_id=self._attempt.spec.trial_id,
            attempt=self._attempt.name,
            step=step,
            digests=self.digests,
            make=make,
        )

    def remove_checkpoints(self) -> None:
        """A finished trial needs none: its history is in the result."""
        storage, trial_id = self._attempt.storage, self._attempt.spec.trial_id
        for attempt in storage.names(trial_path(trial_id, "attempts")):
            for name in storage.names(attempt_path(trial_id, attempt)):
                if name.startswith("checkpoint-"):
                    storage.remove(attempt_path(trial_id, attempt, name))
        remove_labels(storage, trial_id)
