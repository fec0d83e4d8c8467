"""Real processes work off a table while one after the other is killed: what comes out is the closed form."""

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import fsum
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from experiments.table import Cell, Frame, Row, Table
from orchestrator.lease import Lease
from orchestrator.plan import survey, to_run
from results.aggregate import Selection, summarize
from results.frame import read_frames
from tests.chaos.faults import scratch
from tests.chaos.trivial import DATASET, expected_of, told_by, trivial_spec, trivial_world
from tests.worlds import ROOT
from trainer.host import NoHost
from trainer.reading import read_result, read_segments
from trainer.run import run_trial
from trainer.spec import RunOptions, Supervised, TrialSpec
from trainer.storage import Storage

NUM_STEPS, CHECKPOINT_EVERY, LOG_EVERY = 12, 3, 2
CELLS_HELD = 4
PROCESSES = 2
SAMPLE = trivial_spec(num_steps=NUM_STEPS, start=4, every=5)

# Whoever was killed is to be there again soon: what takes seconds to import is imported once, by the forks' server.
multiprocessing.set_forkserver_preload(
    ["torch._dynamo", "torchvision.transforms.v2", "trainer.run", "orchestrator.plan", "results.aggregate", "pytest"]
)


def table_of(num_seeds: int) -> Table:
    """Two methods at two label fractions."""
    shared = {name: getattr(SAMPLE, name) for name in Frame.model_fields if name in TrialSpec.model_fields}
    return Table(
        name="soak",
        title="Trivial trials",
        frame=Frame(**{**shared, "dataset": DATASET}),
        rows=(Row("Supervised", Supervised()), Row("Mixed", SAMPLE.method)),
        fractions=(Fraction(1, 4), Fraction(1, 2)),
        seeds=tuple(range(num_seeds)),
    )


# --- what a process does ------------------------------------------------------------------------------------------


class Diary:
    """What a process did, line by line; what is written stays, even if it is killed in the next moment."""

    def __init__(self, folder: str, number: int) -> None:
        self._file = os.open(f"{folder}/{number:06d}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, trial_id: str, step: int = 0) -> None:
        os.write(self._file, (json.dumps([time.time(), what, trial_id, step]) + "\n").encode())


class NotingStorage(Storage):
    """Notes each commit once it is sealed, and from which step an attempt goes on."""

    diary: Diary

    def write(self, path: str, content: bytes) -> None:
        super().write(path, content)
        if path.endswith("/commit.json"):
            self.diary.note("sealed", path.split("/")[1], int(path.split("/")[-2].removeprefix("checkpoint-")))
        if path.endswith("/manifest.json"):
            self.diary.note("resumed", path.split("/")[1], json.loads(content)["resumed_from_step"])


def work(folder: str, number: int, num_seeds: int, step_seconds: float) -> None:
    """Hold a few cells, train them, look again, until all are done."""
    torch.set_num_threads(1)
    diary, rng, table = Diary(f"{folder}/diaries", number), random.Random(number), table_of(num_seeds)
    NotingStorage.diary = diary
    storage, options = Storage(f"{folder}/runs"), options_of(folder)

    def on_build(spec: TrialSpec) -> Callable[[int], None]:
        trial_id = spec.trial_id
        diary.note("built", trial_id)

        def on_step(step: int) -> None:
            time.sleep(rng.expovariate(1 / step_seconds))
            diary.note("step", trial_id, step)

        return on_step

    with trivial_world(on_build) as patch:
        patch.setattr("trainer.run.Storage", NotingStorage)
        while True:
            found = survey(table, storage)
            if all(planned.state == "done" for planned in found):
                return
            cells = to_run(found, retry_failed=False)
            train(rng.sample(cells, min(CELLS_HELD, len(cells))), storage, options)


def train(cells: list[Cell], storage: Storage, options: RunOptions) -> None:
    with Lease(storage, "soak", [cell.trial_id for cell in cells]) as lease:
        for cell in cells:
            if cell.trial_id in lease.trial_ids:
                assert run_trial(cell.spec, options, NoHost()).kind == "done"
    if not cells:
        time.sleep(0.05)  # the others hold what is left


def options_of(folder: str) -> RunOptions:
    return RunOptions(
        storage=f"{folder}/runs",
        device="cpu",
        log_every=LOG_EVERY,
        checkpoint_every=CHECKPOINT_EVERY,
        hang_seconds=60.0,
    )


# --- who starts and kills them ------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """Two processes at work; who is killed is there again at once."""

    folder: str
    num_seeds: int
    step_seconds: float
    processes: list[BaseProcess] = field(default_factory=list)
    started: int = 0
    killed: int = 0

    def start_one(self) -> BaseProcess:
        arguments = (self.folder, self.started, self.num_seeds, self.step_seconds)
        process = multiprocessing.get_context("forkserver").Process(target=work, args=arguments, daemon=True)
        process.start()
        self.started += 1
        return process

    def kill_one(self, rng: random.Random) -> None:
        place = rng.randrange(PROCESSES)
        assert self.processes[place].exitcode in (None, 0)  # nobody ends by an error
        self.killed += self.processes[place].is_alive()
        self.processes[place].kill()
        self.processes[place].join()
        self.processes[place] = self.start_one()

    def end(self) -> None:
        for process in self.processes:
            process.join(60.0)
            assert process.exitcode == 0


@contextmanager
def crowd(num_seeds: int, step_seconds: float) -> Iterator[Crowd]:
    with scratch() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])  # the children import this module by its name
        Path(folder, "diaries").mkdir()
        people = Crowd(folder, num_seeds, step_seconds)
        people.processes = [people.start_one() for _ in range(PROCESSES)]
        try:
            yield people
        finally:
            for process in people.processes:
                process.kill()
                process.join()


# --- what has to be true ------------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """What the diaries say of one attempt."""

    trial_id: str
    built: float
    resumed: int | None = None
    steps: list[int] = field(default_factory=list)
    sealed: list[tuple[float, int]] = field(default_factory=list)


def attempts_of(folder: str) -> list[Attempt]:
    """Every attempt of every process."""
    attempts: list[Attempt] = []
    for path in sorted(Path(folder, "diaries").iterdir()):
        for line in path.read_text().splitlines():
            moment, what, trial_id, step = json.loads(line)
            if what == "built":
                attempts.append(Attempt(trial_id, moment))
            elif what == "resumed":
                attempts[-1].resumed = step
            elif what == "step":
                attempts[-1].steps.append(step)
            else:
                attempts[-1].sealed.append((moment, step))
            assert attempts[-1].trial_id == trial_id
    return attempts


def check_attempts(attempts: list[Attempt]) -> int:
    """No attempt went back behind a commit, or beyond its own by more than an interval; tells what was replayed."""
    begun: list[tuple[str, int]] = []
    for attempt in attempts:
        begun += [(attempt.trial_id, step) for step in attempt.steps]
        others = [other for other in attempts if other.trial_id == attempt.trial_id]
        before = [step for other in others for moment, step in other.sealed if moment < attempt.built]
        if attempt.resumed is not None:
            assert attempt.resumed >= max(before, default=0)
            assert attempt.steps == list(range(attempt.resumed, attempt.resumed + len(attempt.steps)))
            safe = max((step for _, step in attempt.sealed), default=attempt.resumed)
            assert attempt.resumed + len(attempt.steps) - safe <= CHECKPOINT_EVERY
    return len(begun) - len(set(begun))


def check_results(table: Table, storage: Storage) -> None:
    """Every cell is done, and every record of it is the closed form."""
    for cell in table.cells():
        result, expected = read_result(storage, cell.trial_id), expected_of(cell.spec, LOG_EVERY)
        assert result is not None
        assert told_by(list(read_segments(storage, cell.trial_id, result.segments))) == expected.records
        assert told_by(result.evaluations) == expected.evaluations


def check_table(table: Table, storage: Storage) -> None:
    """Mean and std of every cell of the table are those of the closed form."""
    summaries = summarize(read_frames(storage, table), Selection("last", "student"))
    expected: dict[tuple[str, str], list[float]] = {}
    for cell in table.cells():
        last = expected_of(cell.spec, LOG_EVERY).last_mean_iou
        expected.setdefault((cell.row, str(cell.label_fraction)), []).append(last)
    assert summaries.keys() == expected.keys()
    for place, values in expected.items():
        assert summaries[place].n == len(values)
        assert summaries[place].mean == pytest.approx(fsum(values) / len(values), rel=1e-12)
        assert summaries[place].std == pytest.approx(statistics.stdev(values), rel=1e-12)


def soak(num_seeds: int, *, step_seconds: float, kill_seconds: float) -> dict[str, Any]:
    """Let a crowd work off a table, kill one of them every so often, and look at what is there."""
    table, rng, began = table_of(num_seeds), random.Random(0), time.monotonic()
    with crowd(num_seeds, step_seconds) as people:
        storage = Storage(f"{people.folder}/runs")
        while any(planned.trial.kind != "done" for planned in survey(table, storage)):
            time.sleep(rng.uniform(0.3, 1.7) * kill_seconds)
            people.kill_one(rng)
            read_frames(storage, table, include_partial=True)  # a person who looks on
        people.end()
        attempts = attempts_of(people.folder)
        replayed = check_attempts(attempts)
        check_results(table, storage)
        check_table(table, storage)
    return {
        "cells": len(table.cells()),
        "attempts": len(attempts),
        "killed": people.killed,
        "replayed": replayed,
        "seconds": round(time.monotonic() - began, 1),
    }


def test_a_table_worked_off_by_processes_that_are_killed_is_the_closed_form() -> None:
    told = soak(8, step_seconds=0.02, kill_seconds=0.5)
    assert told["replayed"] > 0, told
    print(told)  # shown by -s


@pytest.mark.chaos
def test_a_larger_table_worked_off_under_many_more_kills_is_the_closed_form() -> None:
    told = soak(30, step_seconds=0.15, kill_seconds=1.0)
    assert told["killed"] >= 50, told
    assert told["replayed"] > 0, told
    print(told)
