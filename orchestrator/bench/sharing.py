"""Trials that share one device: what a step of all of them together costs beside one trial alone.

On a GPU one, two and four trials are trained at once. On CPUs the device is a few of them, four at most: one trial has
all as threads, two have half each, four a quarter. What was measured is kept for `plan` (`orchestrator/sharing.py`).
"""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from multiprocessing.connection import Connection

import torch

from orchestrator.bench.measuring import Call, Figure, Setting, Size, ratio_of, seconds_of, spread_of
from orchestrator.bench.rooms import NEVER, NoKeeper, classmix_spec, workspace
from orchestrator.bench.steps import StopAt
from orchestrator.probe import device_here, opened
from orchestrator.sharing import (
    Arrangement,
    Sharing,
    SharingBook,
    Together,
    arrangements,
    cpus_here,
    processor,
    shape_of,
    that_fit,
    torch_release,
)
from trainer.build import open_data
from trainer.data.cache import cache_folder
from trainer.data.pixels import free_bytes
from trainer.errors import SetupError
from trainer.loop import Cadence, train
from trainer.machine import keep_freed_memory
from trainer.methods.base import Phase
from trainer.phases import enter
from trainer.spec import DeepLabV2, RunOptions, TinyNetwork, TrialSpec
from trainer.trial import Trial

ALONE = "one trial alone"
Seconds = Mapping[Arrangement, Sequence[float]]
"""Seconds of a step in each round, those of all trials at once divided by their number."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A trial of which several are trained at once; how many steps at most lie between two looks at the clock."""

    name: str
    spec: TrialSpec
    steps: int


def measure_sharing(setting: Setting) -> list[Figure]:
    """Seconds of a step, all trials at once counted together: below those of one alone where sharing pays.

    But for the smallest size it is kept for `plan`, in the folder of this machine's caches.
    """
    figures = []
    for shared in _cases(setting.size, setting.device):
        wanted = arrangements(cpus=cpus_here(), on_gpu=setting.device.type == "cuda")
        with workspace() as folder:
            options = RunOptions(data=str(folder / "data"), cache=str(folder / "cache"))
            taken = measure_together(shared, wanted, options, setting)
        if setting.size != "small":
            SharingBook(cache_folder(None)).keep(sharing_of(shared.spec, taken, setting.device))
        figures += _figures(shared.name, taken)
    return figures


def _cases(size: Size, device: torch.device) -> list[Shared]:
    if size == "small":
        return [Shared("tiny 32x64", classmix_spec(TinyNetwork(width=4), 32, 64), 2)]
    cases = [Shared("tiny 64x128", classmix_spec(TinyNetwork(), 64, 128, batch=4), 20)]
    if size == "paper" and device.type == "cuda":
        cases.append(Shared("DeepLab-V2 512x1024", classmix_spec(DeepLabV2(), 512, 1024, precision="bf16"), 5))
    return cases


def _figures(name: str, taken: Seconds) -> list[Figure]:
    alone = next(iter(taken.values()))
    return [
        Figure(
            "sharing",
            f"{name}, {way.at_once} at once, {way.threads} threads each",
            spread_of(seconds),
            ALONE,
            ratio_of(seconds, alone),
            "below 1" if way.at_once > 1 else "",
            {"steps_per_second": 1 / spread_of(seconds).median},
        )
        for way, seconds in taken.items()
    ]


def measure_fitting(shared: Shared, options: RunOptions, setting: Setting, *, free: float | None = None) -> Sharing:
    """Measure as many trials at once as a device has memory for.

    Args:
        free: bytes that the device has left; asked of it unless told.
    Raises: SetupError where there is no room for one; what `measure_together` raises.
    """
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    wanted = arrangements(cpus=cpus_here(), on_gpu=setting.device.type == "cuda")
    fitting, left_out = that_fit(wanted, shared.spec, free_bytes(setting.device) if free is None else free)
    if not fitting:
        raise SetupError(left_out)
    return sharing_of(shared.spec, measure_together(shared, fitting, options, setting), setting.device, left_out)


def sharing_of(spec: TrialSpec, taken: Seconds, device: torch.device, left_out: str = "") -> Sharing:
    """What is kept of a measurement; the first arrangement is one trial alone."""
    alone, on_gpu = next(iter(taken.values())), device.type == "cuda"
    return Sharing(
        shape=shape_of(spec),
        method=spec.method.name,
        device=device_here(device) if on_gpu else processor(),
        cpus=0 if on_gpu else max(way.at_once * way.threads for way in taken),
        torch=torch_release(),
        date=datetime.now(UTC).date().isoformat(),
        rounds=len(alone),
        together=tuple(_together(way, seconds, alone) for way, seconds in taken.items()),
        left_out=left_out,
    )


def _together(way: Arrangement, seconds: Sequence[float], alone: Sequence[float]) -> Together:
    ratio = ratio_of(seconds, alone)
    return Together(
        at_once=way.at_once,
        threads=way.threads,
        seconds=spread_of(seconds).median,
        ratio=ratio.median,
        low=ratio.low,
        high=ratio.high,
    )


def measure_together(shared: Shared, wanted: Sequence[Arrangement], options: RunOptions, setting: Setting) -> Seconds:
    """Let all arrangements take turns, after a round that does not count.

    Raises: DataError where images are missing, RuntimeError where a trial ends.
    """
    open_data(shared.spec, options.data, cache_folder(options.cache))  # prepared once, before many ask for them
    seconds: dict[Arrangement, list[float]] = {way: [] for way in wanted}
    with trials_at_once(shared, options, setting, max(way.at_once for way in wanted)) as trials:
        for place in range(setting.rounds + 1):
            for way in wanted:
                taken = seconds_together(trials[: way.at_once], way.threads) / way.at_once
                seconds[way] += [taken] if place else []
    return seconds


def seconds_together(trials: Sequence[Connection], threads: int = 1) -> float:
    """Let these trials take steps at once, with so many threads each; seconds of a step of the last to be done."""
    for trial in trials:
        trial.send(threads)
    return max(float(trial.recv()) for trial in trials)


@contextmanager
def trials_at_once(shared: Shared, options: RunOptions, setting: Setting, count: int) -> Iterator[list[Connection]]:
    """Processes with a trial each, which take their steps when told to; their ends of a pipe."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(target=_serve, args=(theirs, shared, options, setting), daemon=True) for _, theirs in pipes
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # what is left open is the process's own: should it die, nobody waits for its word
    mine = [ours for ours, _ in pipes]
    try:
        for connection in mine:
            connection.recv()  # it has taken its first steps
        yield mine
    except (EOFError, ConnectionError) as error:
        raise RuntimeError(f"one of {count} trials at once on {setting.device} ended; its words are above") from error
    finally:
        for connection, process in zip(mine, processes, strict=True):
            with suppress(OSError):
                connection.send(0)
            process.join()


def _serve(connection: Connection, shared: Shared, options: RunOptions, setting: Setting) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    trial = opened(shared.spec, options, setting.device)
    steps = min(shared.steps, max(1, longest_phase(trial.method.phases).num_steps // 4))
    call = busiest_chunks(trial, steps)
    connection.send(seconds_of(call, setting.device) / steps)
    while threads := connection.recv():
        torch.set_num_threads(threads)
        connection.send(seconds_of(call, setting.device) / steps)
    trial.streams.close()


def busiest_chunks(trial: Trial, steps: int) -> Call:
    """Each call trains so many steps more of the longest phase, from its middle on and there again at its end."""
    phase, keeper = longest_phase(trial.method.phases), NoKeeper()
    enter(phase, trial, keeper)
    first_steps = cycle(chunk_starts(phase, steps))
    cadence = Cadence(log=steps, checkpoint=NEVER, evaluate=NEVER)
    return lambda: train(trial, keeper, StopAt(), cadence, next(first_steps))


def longest_phase(phases: Sequence[Phase]) -> Phase:
    """The phase that most steps belong to, of equals the first."""
    return max(phases, key=lambda phase: phase.num_steps)


def chunk_starts(phase: Phase, steps: int) -> range:
    """Where chunks of so many steps begin in the second half of a phase: at multiples, since records are due there.

    None takes the last step, after which a trial is judged, if the phase has four times as many steps.
    """
    end = phase.first_step + phase.num_steps
    begin = -(-(phase.first_step + phase.num_steps // 2) // steps) * steps
    return range(begin, max(end - steps, begin + 1), steps)
