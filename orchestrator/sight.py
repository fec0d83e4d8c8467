"""What a run looks like from outside: storage to rates, time left, devices and links. Reads records alone; no Ray."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

import psutil

from experiments.table import Table
from orchestrator.admission import TrialQueue
from orchestrator.lease import live_drivers
from orchestrator.order import Waiting
from orchestrator.plan import Done, Judge, Look, PlannedCell, survey
from orchestrator.rehearsal import rehearse
from trainer.reading import read_progress
from trainer.records import (
    DamagedRecord,
    Manifest,
    ProgressRecord,
    attempt_path,
    trial_path,
)
from trainer.spec import TrialSpec
from trainer.storage import Storage

SILENT_SECONDS = 60.0
"""A trial says how far it is every ten seconds; one that is silent for so long counts for no rate."""


@dataclass(frozen=True, slots=True)
class Going:
    """A cell that a live driver trains: how far it says it is, how long ago it said so, and where it runs.

    `progress` is None while its attempt has said nothing yet, as of trials that still wait in their driver's queue.
    """

    item: PlannedCell
    progress: ProgressRecord | None
    silent_seconds: float = 0.0
    manifest: Manifest | None = None

    @property
    def rate(self) -> float:
        """Steps a second; 0 where it is silent."""
        if self.progress is None or self.silent_seconds > SILENT_SECONDS:
            return 0.0
        return self.progress.steps_per_second


@dataclass(frozen=True, slots=True)
class Sight:
    """All cells, those that are trained now (the ones that speak first), and dashboards of their drivers."""

    planned: tuple[PlannedCell, ...]
    going: tuple[Going, ...]
    dashboards: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Steps a second in all."""
        return sum(going.rate for going in self.going)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to look at."""
        return all(item.state == "done" for item in self.planned)

    def devices(self) -> Counter[tuple[str, str]]:
        """Ranks of speaking trials by host and kind of device, where these are known."""
        found: Counter[tuple[str, str]] = Counter()
        for going in self.going:
            if going.manifest is not None and going.rate > 0:
                found[going.manifest.host, going.manifest.device] += going.manifest.world_size
        return found

    def seconds_left(self) -> float | None:
        """Until what is missing is done, as many trials going on at once as now; None where nobody says how fast."""
        rates = {going.item.cell.trial_id: going.rate for going in self.going if going.rate > 0}
        if not rates:
            return None
        waiting = [Waiting(name, 1, seconds) for name, seconds in _seconds_each(self, rates).items()]
        return rehearse(TrialQueue(waiting), [len(rates)]).seconds


def _seconds_each(sight: Sight, rates: Mapping[str, float]) -> dict[str, float]:
    """Seconds left of every unfinished trial: at its own rate, else at the median one of its row, else of all."""
    steps = {going.item.cell.trial_id: going.progress.step for going in sight.going if going.progress is not None}
    of_rows: dict[str, list[float]] = {}
    for going in sight.going:
        if going.rate > 0:
            of_rows.setdefault(going.item.cell.row, []).append(going.rate)
    found = {}
    for item in sight.planned:
        if item.state in ("missing", "partial", "running"):
            name = item.cell.trial_id
            rate = rates.get(name) or median(of_rows.get(item.cell.row) or rates.values())
            found[name] = (item.cell.spec.num_steps - max(item.trial.step, steps.get(name, 0))) / rate
    return found


def look(table: Table, storage: Storage, judge: Judge, each: Look | None = None) -> Sight:
    """See what storage says now; `each` is how a trial is looked at, as in `survey`."""
    planned = survey(table, storage, judge, each)
    now = storage.now()
    unique = {item.cell.trial_id: item for item in reversed(planned) if item.state == "running"}
    going = [_going(item, storage, now) for item in reversed(unique.values())]
    dashboards = dict.fromkeys(d.dashboard for d in live_drivers(storage) if d.dashboard)
    return Sight(tuple(planned), tuple(sorted(going, key=lambda g: g.progress is None)), tuple(dashboards))


def _going(item: PlannedCell, storage: Storage, now: float) -> Going:
    name = item.cell.trial_id
    attempts = storage.names(trial_path(name, "attempts"))
    with suppress(DamagedRecord, OSError):
        progress = read_progress(storage, name, attempts[-1]) if attempts else None
        if progress is not None:
            manifest = Manifest.find(storage, attempt_path(name, attempts[-1], "manifest.json"))
            return Going(item, progress, max(now - progress.time, 0.0), manifest)
    return Going(item, None)


def remembering(judge: Judge) -> Judge:
    """A judge who is asked once of every result, since what is looked at every few seconds seldom changes."""
    known: dict[tuple[str, str], str] = {}

    def ask(spec: TrialSpec, done: Done) -> str:
        key = (done.trial_id, done.attempt)
        if key not in known:
            known[key] = judge(spec, done)
        return known[key]

    return ask


def use_of_this_machine(run: Callable[[Sequence[str]], str] | None = None) -> list[str]:
    """How busy this machine is, in words: its GPUs where it has any, else its CPUs."""
    lines = []
    if run is not None or shutil.which("nvidia-smi"):
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            lines = [_gpu_words(line) for line in (run or _run)(_NVIDIA_SMI).splitlines() if line.strip()]
    memory = psutil.virtual_memory()
    used, whole = (memory.total - memory.available) / 2**30, memory.total / 2**30
    load = psutil.getloadavg()[0]
    return lines or [f"load {load:.1f} on {psutil.cpu_count()} CPUs, memory {used:.0f} of {whole:.0f} GiB"]


_NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=index,utilization.gpu,memory.used,memory.total",
    "--format=csv,noheader,nounits",
)


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout


def _gpu_words(line: str) -> str:
    index, busy, used, whole = (part.strip() for part in line.split(","))
    return f"GPU {index} {float(busy):.0f} %, {float(used) / 1024:.0f} of {float(whole) / 1024:.0f} GiB"
