"""The proof that nothing is lost: one cell trained in peace and once more under SIGKILL, compared bit by bit.

It runs the real command in processes of its own and looks at storage alone; it does not know Ray.
"""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from experiments.table import Cell
from trainer.reading import (
    find_commits,
    read_progress,
    read_result,
    read_segments,
)
from trainer.records import (
    DamagedRecord,
    Manifest,
    ProgressRecord,
    Record,
    attempt_path,
    trial_path,
)
from trainer.storage import Storage

Victim = Literal["worker", "trial process", "driver"]
VICTIMS: tuple[Victim, ...] = ("worker", "trial process", "driver")
# What Ray calls the process in which Tune runs a trial's function.
_TRIAL_PROCESS = "ray::ImplicitFunc"
_PATIENCE_SECONDS = 300.0
_POLL_SECONDS = 0.02

Say = Callable[[str], None]


class DrillError(ValueError):
    """The drill could not be carried out, which proves nothing either way."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL in the midst of training.

    `safe_step` is what was safe, `seen_step` how far the attempt had said it was, `resumed_step` where the next
    attempt went on; `gone_seconds` is how long the processes below a killed driver took to end.
    """

    victim: Victim
    at: str
    safe_step: int
    seen_step: int
    resumed_step: int
    gone_seconds: float | None

    @property
    def replayed(self) -> int:
        """Updates that were made twice, at least."""
        return self.seen_step - self.resumed_step

    @property
    def counts(self) -> bool:
        """Whether steps were lost: a process that dies just after a commit proves little."""
        return self.seen_step > self.safe_step


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing that must be equal, with what it was in peace and under fire."""

    what: str
    in_peace: str
    under_fire: str

    @property
    def is_equal(self) -> bool:
        """Whether both are the same."""
        return self.in_peace == self.under_fire


@dataclass(frozen=True, slots=True)
class DrillOutcome:
    """All that the report tells."""

    cell: Cell
    command: str
    checkpoint_every: int
    kills: tuple[Kill, ...]
    comparisons: tuple[Comparison, ...]
    seconds_in_peace: float
    seconds_under_fire: float

    @property
    def has_passed(self) -> bool:
        """Whether everything is equal, and every kill cost some steps but no more than a checkpoint is apart."""
        within = all(kill.replayed <= self.checkpoint_every for kill in self.kills)
        lost = {kill.victim for kill in self.kills if kill.counts and kill.replayed > 0}
        return lost == set(VICTIMS) and within and all(comparison.is_equal for comparison in self.comparisons)


@dataclass(frozen=True, slots=True)
class Drill:
    """A cell, the words with which `run` trains it alone, and the folder for both storages."""

    cell: Cell
    words: tuple[str, ...]
    folder: Path
    checkpoint_every: int

    def run(self, rounds: int, *, say: Say) -> DrillOutcome:
        """Train in peace, then under fire. Raises: DrillError where a kill could not be brought about."""
        peace, fire = (Storage(str(self.folder / name)) for name in ("in-peace", "under-fire"))
        for storage in (peace, fire):
            storage.remove("trials")
        say(f"training {self.cell.name} ({self.cell.spec.num_steps} steps) in peace")
        started = time.monotonic()
        with self._driver(peace) as driver:
            self._finish(driver)
        in_peace = time.monotonic() - started
        say(f"done in {in_peace:.0f} s; once more, under fire")
        started = time.monotonic()
        kills = self._under_fire(fire, VICTIMS * rounds, say)
        return DrillOutcome(
            cell=self.cell,
            command=" ".join(["mixgrid", "run", *self.words]),
            checkpoint_every=self.checkpoint_every,
            kills=tuple(kills),
            comparisons=tuple(self._compare(peace, fire)),
            seconds_in_peace=in_peace,
            seconds_under_fire=time.monotonic() - started,
        )

    def _under_fire(self, storage: Storage, victims: Sequence[Victim], say: Say) -> list[Kill]:
        kills: list[Kill] = []
        waiting = list(victims)
        while True:
            with self._driver(storage) as driver:
                while waiting:
                    kills.append(self._kill(storage, waiting[0], driver, kills))
                    say(_tell(kills[-1]))
                    if kills[-1].counts:
                        waiting.pop(0)
                    if kills[-1].victim == "driver":
                        break
                else:
                    self._finish(driver)
                    self._settle(storage, kills)
                    return kills

    def _kill(self, storage: Storage, victim: Victim, driver: psutil.Popen, earlier: Sequence[Kill]) -> Kill:
        """Wait until steps were made since a commit that is newer than at the kill before; kill then."""
        before = earlier[-1].safe_step if earlier else 0
        safe, progress = self._wait_for_unsafe_steps(storage, driver, before)
        process, worker = (self._process(storage, who, driver) for who in (victim, "worker"))
        below = driver.children(recursive=True) if victim == "driver" else []
        at = time.strftime("%H:%M:%S")
        process.kill()
        _seconds_until_gone([process, worker])  # a worker trains on for a moment after who started it died
        gone = _seconds_until_gone(below) if victim == "driver" else None
        seen = read_progress(storage, self.cell.trial_id, progress.attempt) or progress
        commits = find_commits(storage, self.cell.trial_id)
        safe = max(safe, commits[0].step if commits else 0)
        return Kill(victim, at, safe, seen.step, safe, gone)

    def _wait_for_unsafe_steps(
        self, storage: Storage, driver: psutil.Popen, newer_than: int
    ) -> tuple[int, ProgressRecord]:
        trial_id, deadline = self.cell.trial_id, time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            attempts = storage.names(trial_path(trial_id, "attempts"))
            commits = find_commits(storage, trial_id)
            progress = read_progress(storage, trial_id, attempts[-1]) if attempts else None
            if commits and progress and newer_than < commits[0].step < progress.step < self.cell.spec.num_steps:
                return commits[0].step, progress
            if driver.poll() is not None:
                raise DrillError(
                    f"the trial ended before it could be killed between two checkpoints (exit code {driver.returncode}"
                    f"; log: {self._log(storage)}): more steps (--set num_steps=…) or a smaller --checkpoint-every help"
                )
            time.sleep(_POLL_SECONDS)
        raise DrillError(f"no step beyond a checkpoint within {_PATIENCE_SECONDS:.0f} s; log: {self._log(storage)}")

    def _process(self, storage: Storage, victim: Victim, driver: psutil.Popen) -> psutil.Process:
        if victim == "driver":
            return driver
        if victim == "worker":
            attempt = storage.names(trial_path(self.cell.trial_id, "attempts"))[-1]
            manifest = Manifest.find(storage, attempt_path(self.cell.trial_id, attempt, "manifest.json"))
            assert manifest is not None, "an attempt that makes steps has a manifest"
            return psutil.Process(manifest.pid)
        for process in driver.children(recursive=True):
            with suppress(psutil.Error):
                if any(_TRIAL_PROCESS in word for word in process.cmdline()):
                    return process
        raise DrillError("found no process of Tune's trial below the driver")

    def _settle(self, storage: Storage, kills: list[Kill]) -> None:
        """Fill in where the attempts after the kills really went on."""
        resumed = []
        for attempt in storage.names(trial_path(self.cell.trial_id, "attempts")):
            with suppress(DamagedRecord):
                manifest = Manifest.find(storage, attempt_path(self.cell.trial_id, attempt, "manifest.json"))
                resumed += [manifest.resumed_from_step] if manifest is not None else []
        if len(resumed) != len(kills) + 1:
            raise DrillError(f"{len(kills)} kills, but {len(resumed)} attempts: something else ended one")
        for index, step in enumerate(resumed[1:]):
            kill = kills[index]
            kills[index] = replace(kill, resumed_step=step)

    @contextmanager
    def _driver(self, storage: Storage) -> Iterator[psutil.Popen]:
        """The command `mixgrid run` as a process of its own; gone with all below it at the end."""
        program = "from orchestrator.cli.app import main; main()"
        command = [sys.executable, "-c", program, "run", *self.words, "--storage", storage.url]
        root = str(Path(__file__).parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self._log(storage).parent.mkdir(parents=True, exist_ok=True)
        with self._log(storage).open("ab") as log:
            driver = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            try:
                yield driver
            finally:
                _end(driver)

    def _log(self, storage: Storage) -> Path:
        return Path(storage.locate("run.log"))

    def _finish(self, driver: psutil.Popen) -> None:
        if code := driver.wait():
            raise DrillError(f"`mixgrid run` ended with exit code {code}: see run.log below {self.folder}")

    def _compare(self, peace: Storage, fire: Storage) -> Iterator[Comparison]:
        trial_id = self.cell.trial_id
        results = [read_result(storage, trial_id) for storage in (peace, fire)]
        for what in ("weights_sha256", "num_steps"):
            yield Comparison(what, *(str(getattr(result, what)) for result in results))
        histories = [
            [_timeless(record) for record in read_segments(storage, trial_id, result.segments)]
            for storage, result in zip((peace, fire), results, strict=True)
            if result is not None
        ]
        yield Comparison("metric records, without times", *(_digest(history) for history in histories))
        last = [result.evaluations[-1] for result in results if result is not None]
        yield Comparison(f"mean IoU of the {last[0].network}", *(repr(record.mean_iou) for record in last))
        for name in ("table.csv", "table-long.csv"):
            paths = [next(Path(s.locate("tables")).rglob(name)) for s in (peace, fire)]
            yield Comparison(name, *(_digest([path.read_text()]) for path in paths))


def _tell(kill: Kill) -> str:
    told = f"{kill.at} SIGKILL to the {kill.victim}: step {kill.safe_step} was safe, {kill.seen_step} was reached"
    return told if kill.counts else f"{told}; does not count, once more"


def _seconds_until_gone(processes: Sequence[psutil.Process]) -> float:
    started = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=_PATIENCE_SECONDS)
    if alive:
        raise DrillError(f"{len(alive)} processes outlive their driver by {_PATIENCE_SECONDS:.0f} s: {alive[:3]}")
    return time.monotonic() - started


def _end(driver: psutil.Popen) -> None:
    if driver.poll() is None:
        below = driver.children(recursive=True)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        _seconds_until_gone(below)


def _timeless(record: Record) -> str:
    return repr(record.model_copy(update={"time": 0.0}))


def _digest(texts: Sequence[str]) -> str:
    import hashlib

    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def report(outcome: DrillOutcome) -> str:
    """The drill in Markdown: what was done, when, what it cost, and whether everything is equal."""
    lines = [
        f"# Drill: {outcome.cell.name}",
        "",
        f"{'Passed' if outcome.has_passed else 'FAILED'} on {time.strftime('%Y-%m-%d')}, {_machine()}.",
        "",
        f"Trial `{outcome.cell.trial_id}`, {outcome.cell.spec.num_steps} steps, a checkpoint every "
        f"{outcome.checkpoint_every}. In peace it took {outcome.seconds_in_peace:.0f} s, start-up included, "
        f"under fire {outcome.seconds_under_fire:.0f} s. Each time:",
        "",
        f"    {outcome.command} --storage FOLDER",
        "",
        "Every kill is a SIGKILL in the midst of training. It counts where steps were made since the last commit; one",
        "that happened to fall just behind a commit (0 made again) was repeated.",
        "",
        "| killed | at | safe step | step reached | went on from | made again, at least | all below it gone after |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_kill_line(kill) for kill in outcome.kills),
        "",
        f"Steps made again: {sum(max(kill.replayed, 0) for kill in outcome.kills)} of at most "
        f"{len(outcome.kills) * outcome.checkpoint_every} that {len(outcome.kills)} kills may cost.",
        "",
        "| what is compared | in peace | under fire | |",
        "| --- | --- | --- | --- |",
        *(f"| {c.what} | {c.in_peace} | {c.under_fire} | {'equal' if c.is_equal else 'DIFFERENT'} |"
          for c in outcome.comparisons),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _kill_line(kill: Kill) -> str:
    gone = "" if kill.gone_seconds is None else f"{kill.gone_seconds:.1f} s"
    steps = (kill.safe_step, kill.seen_step, kill.resumed_step, max(kill.replayed, 0))
    return " | ".join([f"| {kill.victim}", kill.at, *map(str, steps), gone]) + " |"


def _machine() -> str:
    return f"{psutil.cpu_count()} CPUs ({platform.machine()}), Python {platform.python_version()}"
