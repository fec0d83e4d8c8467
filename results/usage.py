"""What a table cost: device-hours that stand in its results, that were lost, and that are still open; and in words.

Nothing but records is counted: an attempt lasts from its first step to its last sign of life, and the hours of one that
went on after its last checkpoint are shared by steps. Knows no format, and loads pandas for nobody.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING

from results.reading import Attempt, is_cpu, read_all
from trainer.records import is_trial_id
from trainer.side_by_side import read_each
from trainer.storage import Storage

if TYPE_CHECKING:
    from results.frame import Frames


NOTHING_DONE: Mapping[str, Sequence[Attempt]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """Hours of one kind of device, times how many of it worked: GPUs, or on a processor the threads of all ranks.

    `used_hours` stand in results; `lost_hours` are replayed steps, failed trials and attempts that nothing rests on;
    `open_hours` are in checkpoints of trials that are not done, or in what works now. `per_run` says how many devices
    the attempts had, smallest first.
    """

    device: str
    used_hours: float
    lost_hours: float
    open_hours: float
    per_run: tuple[float, ...]

    @property
    def total_hours(self) -> float:
        """All of it."""
        return self.used_hours + self.lost_hours + self.open_hours

    @property
    def unit(self) -> str:
        """What an hour of it is called."""
        return "CPU-thread-hours" if is_cpu(self.device) else "GPU-hours"


@dataclass(frozen=True, slots=True)
class Usage:
    """What all attempts took.

    `devices` by name. `run_hours`: hours by the clock of each done trial, its lost work left out. `num_unseen`: done
    trials of which an attempt left no readable manifest, whose hours are not known. `num_failed` and `num_open` count
    trials with attempts that are failed or not done, `num_silent` attempts whose end nobody told, `num_unshared` those
    on GPUs whose share of one was not recorded and which are counted whole.
    """

    devices: tuple[DeviceUsage, ...]
    run_hours: tuple[float, ...]
    num_unseen: int = 0
    num_failed: int = 0
    num_open: int = 0
    num_attempts: int = 0
    num_silent: int = 0
    num_unshared: int = 0


def usage_of(frames: "Frames") -> Usage:
    """Add up the attempts of a table's frames."""
    states = dict(zip(frames.cells["trial_id"], frames.cells["state"], strict=True))
    columns = [frames.attempts[name].tolist() for name in Attempt._fields]
    return add_up((Attempt(*values) for values in zip(*columns, strict=True)), states)


def read_usage(
    storage: Storage,
    trial_ids: Iterable[str],
    *,
    running: Collection[str] = (),
    done: Mapping[str, Sequence[Attempt]] = NOTHING_DONE,
) -> Usage:
    """Add up the attempts of trials, whether or not a table declares them.

    Args:
        running: those somebody works on.
        done: the attempts of trials that are known to be done, by trial; they are not read again.
    """
    listed = list(dict.fromkeys(trial_ids))
    found = read_each(storage, partial(read_all, storage), [name for name in listed if name not in done], is_pure=True)
    states: dict[str, str] = {name: found[name].state.kind if name in found else "done" for name in listed}
    states |= {trial_id: "running" for trial_id in running if states.get(trial_id, "done") != "done"}
    attempts = (found[name].attempts if name in found else done[name] for name in listed)
    return add_up((attempt for of_trial in attempts for attempt in of_trial), states)


def trials_outside(storage: Storage, trial_ids: Collection[str]) -> list[str]:
    """The other trials of a storage, such as those of earlier settings."""
    return [name for name in storage.names("trials") if name not in trial_ids and is_trial_id(name)]


def add_up(attempts: Iterable[Attempt], states: Mapping[str, str]) -> Usage:
    """Add up attempts.

    Args:
        attempts: those of a trial in the order of their start.
        states: of each trial: done, failed, partial, missing or running.
    """
    by_trial: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_trial[attempt.trial_id].append(attempt)
    shares = {trial_id: _shares(found, states[trial_id]) for trial_id, found in by_trial.items()}
    every = [share for found in shares.values() for share in found]
    done = [trial_id for trial_id, state in states.items() if state == "done"]
    whole = [trial_id for trial_id in done if _is_whole(by_trial.get(trial_id, ()))]
    tried = [states[trial_id] for trial_id in by_trial]
    return Usage(
        devices=tuple(_of_device(name, every) for name in sorted({share.attempt.device for share in every})),
        run_hours=tuple(sum(share.used for share in shares[trial_id]) for trial_id in whole),
        num_unseen=len(done) - len(whole),
        num_failed=tried.count("failed"),
        num_open=len(tried) - tried.count("failed") - tried.count("done"),
        num_attempts=len(every),
        num_silent=sum(share.attempt.ending == "silent" for share in every),
        num_unshared=sum(math.isnan(share.attempt.num_gpus) for share in every),
    )


@dataclass(frozen=True, slots=True)
class _Share:
    """Hours of an attempt by the clock, by what became of them."""

    attempt: Attempt
    used: float = 0.0
    lost: float = 0.0
    open: float = 0.0

    @property
    def num_devices(self) -> float:
        """GPUs, whole ones where their share is not known, or threads of a processor."""
        attempt = self.attempt
        if is_cpu(attempt.device):
            return float(attempt.world_size * attempt.threads)
        return float(attempt.world_size) if math.isnan(attempt.num_gpus) else attempt.num_gpus


def _shares(attempts: Sequence[Attempt], state: str) -> list[_Share]:
    """Tell apart what stands from what is lost, in each attempt of one trial."""
    shares = []
    for attempt in attempts:
        hours = attempt.wall_seconds / 3600
        works_now = state == "running" and attempt is attempts[-1] and attempt.ending == "silent"
        kept = 1.0 if works_now else _kept_share(attempt)
        if state == "failed":
            shares.append(_Share(attempt, lost=hours))
        elif state == "done":
            shares.append(_Share(attempt, used=hours * kept, lost=hours * (1 - kept)))
        else:
            shares.append(_Share(attempt, open=hours * kept, lost=hours * (1 - kept)))
    return shares


def _kept_share(attempt: Attempt) -> float:
    """The part of its steps that stands."""
    made = attempt.last_step - attempt.resumed_from_step
    if made == 0:
        return float(attempt.ending == "finished")
    return (attempt.kept_step - attempt.resumed_from_step) / made


def _is_whole(attempts: Sequence[Attempt]) -> bool:
    """Whether the attempts of a done trial account for all its steps."""
    counted = [attempt for attempt in attempts if attempt.in_result]
    made = sum(attempt.kept_step - attempt.resumed_from_step for attempt in counted)
    return any(attempt.ending == "finished" and attempt.kept_step == made for attempt in counted)


def _of_device(device: str, shares: Iterable[_Share]) -> DeviceUsage:
    mine = [share for share in shares if share.attempt.device == device]
    return DeviceUsage(
        device,
        used_hours=math.fsum(share.used * share.num_devices for share in mine),
        lost_hours=math.fsum(share.lost * share.num_devices for share in mine),
        open_hours=math.fsum(share.open * share.num_devices for share in mine),
        per_run=tuple(sorted({share.num_devices for share in mine})),
    )


# --- in words -----------------------------------------------------------------------------------------------------


def hours_line(usage: Usage) -> str:
    """One line: the hours of each kind of device; empty where nothing was tried."""
    return "; ".join(
        f"{device.device}: {_figure(device.used_hours)} {device.unit} in results, {_figure(device.lost_hours)} lost"
        + (f", {_figure(device.open_hours)} in trials not done" if device.open_hours else "")
        for device in usage.devices
    )


def compute_statement(usage: Usage, outside: Usage | None = None) -> str:
    """The paragraph on compute that checklists of conferences ask for; it says what is not known.

    Args:
        outside: what trials of the same storage took that are no part of the table, such as earlier settings.
    """
    if not usage.devices:
        return "Compute: no attempt has left a record yet."
    sentences = [
        *_said_of_runs(usage),
        *(_said_of_device(device) for device in usage.devices),
        *_said_of_losses(usage),
        *(_said_of_outside(device) for device in (outside.devices if outside else ())),
        *_said_of_doubt(usage),
    ]
    return "Compute: " + " ".join(f"{sentence}." for sentence in sentences)


def _said_of_runs(usage: Usage) -> Iterable[str]:
    if usage.run_hours:
        hours = sorted(usage.run_hours)
        spread = f" in the median, from {_figure(hours[0])} to {_figure(hours[-1])}" if len(hours) > 1 else ""
        yield f"{_count(len(hours), 'finished run')} took {_figure(median(hours))} hours by the clock{spread}"


def _said_of_device(device: DeviceUsage) -> str:
    kind = "thread" if is_cpu(device.device) else "GPU"
    counts = " or ".join(f"{count:g}" for count in device.per_run)
    return (
        f"On {device.device} ({counts} {kind}{'' if device.per_run == (1.0,) else 's'} a run): "
        f"{_figure(device.used_hours)} {device.unit} stand in results, {_figure(device.lost_hours)} were lost and "
        f"{_figure(device.open_hours)} are in runs that are not finished, {_figure(device.total_hours)} in all"
    )


def _said_of_losses(usage: Usage) -> Iterable[str]:
    yield (
        "Lost are steps that were made again after an interruption, failed runs and attempts that led nowhere: "
        f"{_count(usage.num_attempts, 'attempt')} in all; failed runs: {usage.num_failed}, "
        f"not finished: {usage.num_open}"
    )


def _said_of_outside(device: DeviceUsage) -> str:
    hours = f"{_figure(device.total_hours)} {device.unit} on {device.device}"
    return f"Runs on the same storage that are no part of the table took another {hours}"


def _said_of_doubt(usage: Usage) -> Iterable[str]:
    yield "An attempt counts from its first step to its last sign of life, without starting up"
    if usage.num_silent:
        yield (
            f"{_count(usage.num_silent, 'attempt')} ended without a word (killed, lost, or working still): "
            "hours are a lower bound"
        )
    if usage.num_unshared:
        number = _count(usage.num_unshared, "attempt")
        yield f"In {number} the share of a GPU was not recorded: each process counts as one GPU"
    if usage.num_unseen:
        yield f"The hours of {_count(usage.num_unseen, 'finished run')} are not known or not known in full"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _figure(hours: float) -> str:
    """Three digits that count, and no more than a tenth of an hour."""
    if 0 < hours < 0.001:
        return "less than 0.001"
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3g}"
