"""The trainer's only view of the outside: where progress goes, and whether to stop."""

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Protocol

Progress = Mapping[str, float | int | str]


class Host(Protocol):
    """Implemented by Ray, by a process under torchrun, and by "none"."""

    def report(self, progress: Progress) -> None:
        """Take scalars of progress; called by every rank at the same steps."""

    def stop_requested(self, step: int) -> bool:
        """Whether the trial is to checkpoint and stop; asked on rank 0 at a fixed cadence."""


class NoHost:
    """Nobody listens and nobody asks to stop."""

    def report(self, progress: Progress) -> None:
        """Let it pass."""

    def stop_requested(self, step: int) -> bool:
        """Never."""
        return False


class ProcessHost(NoHost):
    """A process of its own, alone or under torchrun or Slurm: it stops on SIGTERM, SIGINT or SIGUSR1.

    Args:
        is_asked_to_stop: asked where no signal came.
    """

    def __init__(self, is_asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        self._stop = False
        self._is_asked_to_stop = is_asked_to_stop
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    def report(self, progress: Progress) -> None:
        """Print one line."""
        from trainer.distributed import rank

        if rank() == 0:
            print(" ".join(f"{name}={_short(value)}" for name, value in progress.items()), flush=True)

    def stop_requested(self, step: int) -> bool:
        """Whether a signal or a word came."""
        return self._stop or self._is_asked_to_stop()


def _short(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
