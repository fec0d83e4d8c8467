"""Seconds of things that take turns, and what is said of them. Knows no part of training."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from trainer.machine import give_back_freed_memory

Size = Literal["small", "usual", "paper"]
Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """On what and how often: `size` "small" shows that a part works, "paper" adds what takes minutes on a CPU."""

    device: torch.device
    threads: int = 1
    rounds: int = 15
    size: Size = "usual"


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, quartiles and number of repeated measurements."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured: seconds of one call, and how many times those of `reference` in the same rounds.

    `target` is what is aimed at, in words; `more` holds further numbers, units in their names.
    """

    part: str
    name: str
    seconds: Spread
    reference: str = ""
    ratio: Spread | None = None
    target: str = ""
    more: Mapping[str, float] = field(default_factory=dict)


def spread_of(values: Sequence[float]) -> Spread:
    """What is said of repeated measurements; one alone is its own median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(median, low, high, len(values))


def take_turns(subjects: Mapping[str, Call], setting: Setting, *, warms_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each subject in each round, after one round that does not count unless told otherwise.

    All take turns within a round, so that whatever else the machine does meets them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for place in range(setting.rounds + warms_up):
        for name, call in subjects.items():
            taken = seconds_of(call, setting.device)
            if place >= warms_up:
                seconds[name].append(taken)
    return seconds


def seconds_of(call: Call, device: torch.device) -> float:
    """Seconds of one call, until the device has done it."""
    wait_for(device)
    began = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - began


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio_of(mine: Sequence[float], others: Sequence[float]) -> Spread:
    """How many times the other's seconds, round by round."""
    return spread_of([one / other for one, other in zip(mine, others, strict=True)])


def peak_memory(call: Call, device: torch.device) -> float:
    """MiB that a call held at most: on a GPU by its allocator, on the CPU what the process grew by; nan if unknown."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    give_back_freed_memory()  # else a call takes what others left, and the process does not grow
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    except OSError:
        call()
        return float("nan")
    before = _kib(status, "VmRSS")
    call()
    return (_kib(status, "VmHWM") - before) / 1024


def _kib(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))


def product_peak(setting: Setting, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of square matrix products on the device: the best of a few, the yardstick of what it can do."""
    side = {"small": 256, "usual": 1024, "paper": 2048}[setting.size] * (4 if setting.device.type == "cuda" else 1)
    one, other = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
    seconds = [seconds_of(lambda: one @ other, setting.device) for _ in range(12)]
    return float(2 * side**3 / min(seconds))


def report_of(figures: Sequence[Figure], setting: Setting, device: str) -> dict[str, Any]:
    """All that is needed to read the figures later, as JSON."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "setting": {**asdict(setting), "device": str(setting.device)},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "figures": [asdict(figure) for figure in figures],
    }
