"""What a run is to train, in which order and how much at most. Torch-free; knows no Ray."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from experiments.table import Cell
from orchestrator.admission import TrialQueue
from orchestrator.order import Waiting
from orchestrator.resources import Placement, devices_of


@dataclass(frozen=True, slots=True)
class Agenda:
    """Lengths of trials by id on one device, and what limits a run: trials at once, device-hours of this run.

    `waits_for_nodes`: the cluster has Ray's autoscaler, which is asked for nodes; too few of them are waited for.
    """

    lengths: tuple[Waiting, ...] = ()
    max_concurrent: int | None = None
    max_device_hours: float | None = None
    waits_for_nodes: bool = False

    def __post_init__(self) -> None:
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise ValueError(f"--max-concurrent {self.max_concurrent}: give 1 or more, or leave it out")
        if self.max_device_hours is not None and not 0 < self.max_device_hours < inf:
            raise ValueError(f"--max-gpu-hours {self.max_device_hours}: give hours above 0, or leave it out")

    def queue(self, cells: Sequence[Cell], placement: Placement) -> TrialQueue:
        """The cells as a queue that counts in workers; one without a length is known by its number of steps alone."""
        known = {trial.trial_id: trial for trial in self.lengths}
        waiting = []
        for cell in cells:
            alone = known.get(cell.trial_id) or Waiting(cell.trial_id, 1, float(cell.spec.num_steps), is_known=False)
            waiting.append(replace(alone, devices=placement.workers, seconds=alone.work / placement.workers))
        return TrialQueue(waiting, budget=self._budget(placement))

    def most_slots(self, placement: Placement) -> float:
        """How many workers may run at once."""
        return inf if self.max_concurrent is None else self.max_concurrent * placement.workers

    def _budget(self, placement: Placement) -> float | None:
        """Worker-seconds."""
        return None if self.max_device_hours is None else self.max_device_hours * 3600 / devices_of(placement)
