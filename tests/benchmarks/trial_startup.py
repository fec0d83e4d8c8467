"""Where the start-up of a trial goes: a timeline of trials that follow one another on a real Ray, printed and as JSON.

`python -m tests.benchmarks.trial_startup [--trials 5] [--workers 1] [--json FILE]` trains the smallest trials of the
demonstration, one at a time, and puts together what the queue, Ray's record of its tasks and the trials' own records
say. Medians are over all trials but the first, which also waits for what comes once a run.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.demo import DEMO
from experiments.table import Cell
from orchestrator.admission import Nodes, TrialQueue
from orchestrator.agenda import Agenda
from orchestrator.bench.startup import SETTINGS
from orchestrator.cli.running import prepare_data
from orchestrator.order import Waiting
from orchestrator.resources import Placement
from trainer.reading import read_result, read_segments
from trainer.records import Manifest, TrainRecord, attempt_path
from trainer.spec import RunOptions
from trainer.storage import Storage

SCHEDULED = "scheduled by Tune"
STAGES = (
    SCHEDULED,
    "trial function runs",
    "controller constructed",
    "controller runs",
    "worker constructed",
    "process group set up",
    "workers entered",
    "data open, network built",
    "first step done",
    "last step done",
    "result on storage",
    "trial over for Tune",
)


@dataclass(frozen=True, slots=True)
class Noting(Agenda):
    """An agenda whose queue notes when trials are let in and when they are over."""

    scheduled: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)

    def queue(self, cells: Sequence[Cell], placement: Placement) -> TrialQueue:
        """The cells in their order."""
        waiting = [Waiting(cell.trial_id, placement.workers, 1.0, is_known=True) for cell in cells]
        return _NotingQueue(waiting, self)


class _NotingQueue(TrialQueue):
    def __init__(self, waiting: Iterable[Waiting], notes: Noting) -> None:
        super().__init__(waiting)
        self._notes = notes

    def take(self, nodes: Nodes, now: float) -> Waiting | None:
        taken = super().take(nodes, now)
        if taken is not None:
            self._notes.scheduled[taken.trial_id] = time.time()
        return taken

    def end(self, trial_id: str, now: float, *, is_done: bool = True) -> None:
        self._notes.ended[trial_id] = time.time()
        super().end(trial_id, now, is_done=is_done)


def run_trials(folder: Path, *, trials: int, workers: int, steps: int) -> tuple[list[Cell], Noting, list[Any]]:
    """Train cells one after another; returns them, when each was let in and over, and Ray's record of its tasks."""
    import ray

    from orchestrator.driver import run_cells

    table = DEMO.changed([*SETTINGS[1:], f"num_steps={steps}"]).selected(
        rows="Supervised", fractions="1/4", seeds=f"0-{trials - 1}"
    )
    options = RunOptions(
        storage=str(folder / "storage"),
        data=str(folder / "data"),
        cache=str(folder / "cache"),
        device="cpu",
        log_every=max(1, steps // 20),
        previews=False,
    )
    cells: list[Cell] = list(table.cells())
    tasks: list[Any] = []
    prepare_data(cells, options, Console(quiet=True))
    notes = Noting(max_concurrent=1)

    def look(progress: Any) -> None:
        if progress.is_over and not tasks:
            time.sleep(2)  # processes send their record once a second
            tasks.extend(ray.timeline())

    placement = Placement(workers=workers)
    outcome = run_cells(cells, options, placement, table_name="demo", agenda=notes, while_running=look)
    assert not outcome.problems, outcome.problems
    return cells, notes, tasks


def timeline(cell: Cell, storage: Storage, notes: Noting, tasks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds since the epoch at which a trial reached each stage; what Ray has no record of is left out."""
    begun, over = notes.scheduled[cell.trial_id], notes.ended[cell.trial_id]
    result = read_result(storage, cell.trial_id)
    assert result is not None
    manifest = Manifest.find(storage, attempt_path(cell.trial_id, result.attempt, "manifest.json"))
    assert manifest is not None
    records = read_segments(storage, cell.trial_id, result.segments)
    steps = [record.time for record in records if isinstance(record, TrainRecord)]
    found = {
        SCHEDULED: begun,
        "trial function runs": first_of(tasks, "ImplicitFunc.train", begun, over, at_end=False),
        "controller constructed": first_of(tasks, "TrainController.__init__", begun, over),
        "controller runs": first_of(tasks, "TrainController.run", begun, over, at_end=False),
        "worker constructed": first_of(tasks, "RayTrainWorker.__init__", begun, over),
        "process group set up": first_of(tasks, "execute._setup_torch_process_group", begun, over),
        "workers entered": first_of(tasks, "RayTrainWorker.run_train_fn", begun, over),
        "data open, network built": manifest.started,
        "first step done": min(steps),
        "last step done": max(steps),
        "result on storage": result.finished,
        "trial over for Tune": over,
    }
    return {stage: found[stage] for stage in STAGES if found[stage] is not None}


def first_of(
    tasks: Sequence[Mapping[str, Any]], name: str, begun: float, over: float, *, at_end: bool = True
) -> float | None:
    """The start, or the end, of the first task of a name within a trial's time."""
    times = [
        (task["ts"] + (task["dur"] if at_end else 0)) / 1e6
        for task in tasks
        if task.get("ph") == "X" and task["cat"] == f"task::{name}" and begun <= task["ts"] / 1e6 <= over
    ]
    return min(times, default=None)


def processes(tasks: Sequence[Mapping[str, Any]], begun: float, over: float) -> list[str]:
    """The actors that were constructed within a trial's time, one a process."""
    names = [task["cat"] for task in tasks if task.get("ph") == "X" and begun <= task["ts"] / 1e6 <= over]
    return sorted(name[len("task::") : -len(".__init__")] for name in names if name.endswith(".__init__"))


def median_of(timelines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median seconds from the scheduling of a trial to each stage."""
    return {
        stage: statistics.median(line[stage] - line[SCHEDULED] for line in timelines)
        for stage in STAGES
        if all(stage in line for line in timelines)
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="Of each trial; a step takes some milliseconds.")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixgrid-startup-") as folder:
        cells, notes, tasks = run_trials(Path(folder), trials=words.trials, workers=words.workers, steps=words.steps)
        storage = Storage(str(Path(folder) / "storage"))
        order = sorted(cells, key=lambda cell: notes.scheduled[cell.trial_id])
        lines = [timeline(cell, storage, notes, tasks) for cell in order]
    if words.json:
        words.json.write_text(json.dumps({"timelines": lines, "tasks": tasks}))
    print(f"seconds from the scheduling of a trial, median of the last {len(lines) - 1} of {len(lines)} trials")
    for stage, seconds in median_of(lines[1:]).items():
        print(f"{seconds:8.2f}  {stage}")
    firsts = [line["first step done"] - line[SCHEDULED] for line in lines]
    print("first step, trial by trial:", *(f"{seconds:.2f}" for seconds in firsts))
    gaps = [after[SCHEDULED] - before["result on storage"] for before, after in pairwise(lines)]
    print("result on storage to the next trial scheduled:", *(f"{seconds:.2f}" for seconds in gaps))
    last = order[-1].trial_id
    print("processes of the last trial:", *processes(tasks, notes.scheduled[last], notes.ended[last]))


if __name__ == "__main__":
    main()
