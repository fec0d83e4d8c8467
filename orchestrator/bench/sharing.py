"""Trials that share one device: what a step of all of them together costs beside one trial alone."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from orchestrator.bench.measuring import Figure, Setting, ratio_of, seconds_of, spread_of
from orchestrator.bench.rooms import classmix_spec, open_trial, workspace
from orchestrator.bench.steps import loop_chunks
from trainer.machine import keep_freed_memory
from trainer.spec import DeepLabV2, TinyNetwork, TrialSpec

COUNTS = (1, 2, 4)
ALONE = "one trial alone"


@dataclass(frozen=True, slots=True)
class Shared:
    """A trial of which several are trained at once, and how many steps are taken between two looks at the clock."""

    name: str
    spec: TrialSpec
    steps: int


def measure_sharing(setting: Setting) -> list[Figure]:
    """Seconds of a step, all trials at once counted together: below those of one alone where sharing pays."""
    return [figure for shared in _cases(setting) for figure in _measure(shared, setting)]


def _cases(setting: Setting) -> list[Shared]:
    if setting.size == "small":
        return [Shared("tiny 32x64", classmix_spec(TinyNetwork(width=4), 32, 64), 2)]
    cases = [Shared("tiny 64x128", classmix_spec(TinyNetwork(), 64, 128, batch=4), 20)]
    if setting.size == "paper" and setting.device.type == "cuda":
        cases.append(Shared("DeepLab-V2 512x1024", classmix_spec(DeepLabV2(), 512, 1024, precision="bf16"), 5))
    return cases


def _measure(shared: Shared, setting: Setting) -> list[Figure]:
    counts = COUNTS[:2] if setting.size == "small" else COUNTS
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    with workspace() as folder, trials_at_once(shared, folder, setting, max(counts)) as trials:
        for _ in range(setting.rounds):
            for count in counts:
                seconds[count].append(seconds_together(trials[:count]) / (count * shared.steps))
    return [
        Figure(
            "sharing",
            f"{shared.name}, {count} at once",
            spread_of(taken),
            ALONE,
            ratio_of(taken, seconds[1]),
            "below 1" if count > 1 else "",
            {"steps_per_second": 1 / spread_of(taken).median},
        )
        for count, taken in seconds.items()
    ]


def seconds_together(trials: list[Connection]) -> float:
    """Let these trials take their steps at once; the seconds of the last to be done."""
    for trial in trials:
        trial.send(True)
    return max(float(trial.recv()) for trial in trials)


@contextmanager
def trials_at_once(shared: Shared, folder: Path, setting: Setting, count: int) -> Iterator[list[Connection]]:
    """Processes with a trial each, which take their steps when told to; their ends of a pipe."""
    open_trial(shared.spec, folder, setting.device).streams.close()  # images are drawn once, before many ask for them
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(target=_serve, args=(theirs, shared, folder, setting), daemon=True) for _, theirs in pipes
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
                connection.send(False)
            process.join()


def _serve(connection: Connection, shared: Shared, folder: Path, setting: Setting) -> None:
    keep_freed_memory()
    torch.set_num_threads(setting.threads)
    trial = open_trial(shared.spec, folder, setting.device)
    call = loop_chunks(trial, shared.steps)
    connection.send(seconds_of(call, setting.device))
    while connection.recv():
        connection.send(seconds_of(call, setting.device))
    trial.streams.close()
