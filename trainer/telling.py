"""What an attempt tells while it runs: how far it is, and its log. Nothing of it is read by training."""

import logging
import math
import time
from contextlib import suppress

from trainer.distributed import rank
from trainer.host import Host, Progress
from trainer.records import ProgressRecord, attempt_path
from trainer.storage import Storage


class TellingHost:
    """Passes everything on to the host; beside it rank 0 writes now and then how far the attempt is."""

    def __init__(self, host: Host, storage: Storage, *, trial_id: str, attempt: str, every_seconds: float) -> None:
        self._host = host
        self._storage = storage
        self._place = (trial_id, attempt)
        self._every_seconds = every_seconds
        self._told = -math.inf

    def report(self, progress: Progress) -> None:
        """Tell the host; tell storage where it was not told lately. Raises: what the host raises."""
        self._host.report(progress)
        if rank() == 0 and time.monotonic() - self._told >= self._every_seconds:
            self._told = time.monotonic()
            self._write(progress)

    def stop_requested(self, step: int) -> bool:
        """As the host says."""
        return self._host.stop_requested(step)

    def _write(self, progress: Progress) -> None:
        trial_id, attempt = self._place
        record = ProgressRecord(
            trial_id=trial_id,
            attempt=attempt,
            step=int(progress["step"]),
            num_steps=int(progress["num_steps"]),
            steps_per_second=float(progress["steps_per_second"]),
            time=time.time(),
        )
        with suppress(OSError):  # for the eye only
            self._storage.write(attempt_path(trial_id, attempt, "progress.json"), record.sealed())


class Lines(logging.Handler):
    """Collects what is logged as lines of text."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line."""
        self._lines.append(self.format(record))
