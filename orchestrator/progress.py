"""How far a run is, for the eye: what its driver knows of its trials. Knows no Ray and reads nothing."""

import time
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["waiting", "starting", "training", "done", "failed", "stopped"]


@dataclass(slots=True)
class TrialProgress:
    """What the driver knows of one trial while it runs; for the eye only."""

    name: str
    phase: Phase = "waiting"
    step: int = 0
    num_steps: int = 0
    steps_per_second: float = 0.0
    message: str = ""


@dataclass(slots=True)
class GridProgress:
    """All trials of this run by trial id, when it began, and why nothing starts where a person should know."""

    trials: dict[str, TrialProgress]
    started: float = field(default_factory=time.monotonic)
    note: str = ""

    def count(self, *phases: Phase) -> int:
        """How many trials are in one of the phases."""
        return sum(progress.phase in phases for progress in self.trials.values())

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended."""
        return self.count("waiting", "starting", "training") == 0

    def eta_seconds(self) -> float | None:
        """Seconds left, from the time that finished work took; None before there is any."""
        total = sum(max(progress.num_steps, 1) for progress in self.trials.values())
        made = sum(max(p.num_steps, 1) if p.phase in ("done", "failed") else p.step for p in self.trials.values())
        if made == 0:
            return None
        return (time.monotonic() - self.started) * (total - made) / made
