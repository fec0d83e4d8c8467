"""A real `mixgrid run` in a process of its own, to be killed in parts, and what must be true of its storage after."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from experiments.table import Table
from trainer.host import NoHost
from trainer.reading import (
    find_commits,
    read_progress,
    read_result,
    read_segments,
)
from trainer.records import (
    Manifest,
    ProgressRecord,
    Record,
    attempt_path,
    trial_path,
)
from trainer.run import run_trial
from trainer.spec import RunOptions
from trainer.storage import Storage

ROOT = Path(__file__).parents[2]
# What Ray calls its processes.
WORKER, TRIAL_PROCESS, BARRIER = "ray::RayTrainWorker", "ray::ImplicitFunc", "ray::SynchronizationActor"
PROGRAM = "from orchestrator.cli.app import main; main()"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


@dataclass
class Grid:
    """A table on a storage, and the command that trains it."""

    table: Table
    words: Sequence[str]
    storage: Storage
    environment: dict[str, str] = field(default_factory=environment)
    lost: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """(step reached, step safe) at each kill, by trial."""

    @contextlib.contextmanager
    def running(self) -> Iterator[psutil.Popen]:
        """The driver, gone with all below it at the end."""
        log = Path(self.storage.locate("run.log"))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            command = [sys.executable, "-c", PROGRAM, "run", *self.words, "--storage", self.storage.url]
            driver = psutil.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=self.environment, cwd=ROOT)
            below: list[psutil.Process] = []
            try:
                yield driver
            finally:
                with contextlib.suppress(psutil.Error):
                    below = driver.children(recursive=True)
                if driver.poll() is None:
                    driver.kill()
                driver.wait()
                psutil.wait_procs(below, timeout=90)

    def progress(self) -> dict[str, tuple[int, ProgressRecord]]:
        """Of every half-done trial that is at work: the step that is safe, and how far it says it is."""
        found = {}
        for cell in self.table.cells():
            attempts = self.storage.names(trial_path(cell.trial_id, "attempts"))
            progress = read_progress(self.storage, cell.trial_id, attempts[-1]) if attempts else None
            commits = find_commits(self.storage, cell.trial_id)
            if progress is not None and read_result(self.storage, cell.trial_id) is None:
                found[cell.trial_id] = (commits[0].step if commits else 0, progress)
        return found

    def wait_for_unsafe_steps(self, driver: psutil.Popen, seconds: float = 300.0) -> str:
        """A trial that made steps beyond a checkpoint. AssertionError where there is none in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for trial_id, (safe, progress) in self.progress().items():
                if 0 < safe < progress.step < progress.num_steps and time.time() - progress.time < 2.0:
                    return trial_id
            assert driver.poll() is None, f"the driver ended with {driver.returncode}: {self.log()}"
            time.sleep(0.02)
        raise AssertionError(f"no trial made steps beyond a checkpoint in {seconds} s: {self.log()}")

    def kill(self, process: psutil.Process) -> None:
        """SIGKILL, and note what every trial had reached."""
        process.send_signal(signal.SIGKILL)
        psutil.wait_procs([process], timeout=30)
        for trial_id, (safe, progress) in self.progress().items():
            self.lost.setdefault(trial_id, []).append((progress.step, safe))

    def kill_one(self, driver: psutil.Popen, title: str) -> None:
        """Kill the process of Ray that belongs to a trial with unsafe steps, or any of that title."""
        self.wait_for_unsafe_steps(driver)
        self.kill(processes_below(driver, title)[0])

    def log(self) -> str:
        return Path(self.storage.locate("run.log")).read_text()[-3000:]

    # --- what must be true ---------------------------------------------------------------------------------------

    def resumed_steps(self) -> dict[str, list[int]]:
        """Where every attempt of every trial began, in order."""
        steps: dict[str, list[int]] = {}
        for cell in self.table.cells():
            for attempt in self.storage.names(trial_path(cell.trial_id, "attempts")):
                manifest = Manifest.find(self.storage, attempt_path(cell.trial_id, attempt, "manifest.json"))
                if manifest is not None:
                    steps.setdefault(cell.trial_id, []).append(manifest.resumed_from_step)
        return steps

    def assert_equal_to_undisturbed(self, options: RunOptions) -> None:
        """Weights, metric records and judgements of every cell are those of one process that nobody disturbed."""
        for cell in self.table.cells():
            assert run_trial(cell.spec, options, NoHost()).kind == "done"
            mine, whole = history(self.storage, cell.trial_id), history(Storage(options.storage), cell.trial_id)
            assert mine == whole, cell.name

    def assert_nothing_began_anew(self) -> None:
        """No attempt begins before one that came earlier: what was safe once is never trained again."""
        for trial_id, steps in self.resumed_steps().items():
            assert steps == sorted(steps), f"{trial_id}: {steps}"


def history(storage: Storage, trial_id: str) -> tuple[str | None, list[Record]]:
    result = read_result(storage, trial_id)
    assert result is not None, trial_id
    records = [r.model_copy(update={"time": 0.0}) for r in read_segments(storage, trial_id, result.segments)]
    return result.weights_sha256, records


def processes_below(process: psutil.Process, title: str) -> list[psutil.Process]:
    """Those whose title has a word, oldest first."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(title in word for word in child.cmdline()):
                found.append(child)
    return sorted(found, key=lambda child: child.pid)


def wait_until(is_true: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
