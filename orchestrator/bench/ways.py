"""Each faster way to a step beside the plain one in the same rounds, and each beside the roofline of its operations."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.bench.measuring import (
    Call,
    Figure,
    Setting,
    Spread,
    peak_memory,
    ratio_of,
    spread_of,
    take_turns,
    wait_for,
)
from orchestrator.bench.roofline import Operation, Rates, bound_seconds, measured_rates, step_operations
from orchestrator.bench.rooms import Precision, open_trial
from orchestrator.bench.steps import computed_in, loop_chunks, published_steps, with_tf32
from trainer.machine import allow_tf32, has_fast_bf16
from trainer.spec import RunOptions, TrialSpec

PUBLISHED = "published way, float32"


@dataclass(frozen=True, slots=True)
class Way:
    """A precision, and options of a run by name."""

    precision: Precision
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_options(self) -> RunOptions:
        """The options of a run that ask for it."""
        return RunOptions(**self.options)

    @property
    def name(self) -> str:
        """What it is called in a report."""
        words = [name if value is True else f"{name} {value}" for name, value in self.options.items()]
        return " + ".join([self.precision, *words])


_LAID_OUT = {"channels_last": True}
_COMPILED = {"compile": "default"}
_GRAPHS = {"compile": "reduce-overhead"}
PLAIN_ON_CPU, PLAIN_ON_GPU = Way("float32"), Way("tf32")
"""What the others are beside; on a GPU tf32, which torch's convolutions compute in unless told otherwise."""


def ways_on(device: str, *, compiles: bool) -> list[Way]:
    """The plain way, then the others. Compiling a large network takes minutes on a CPU, so it may be left out there."""
    if device == "cuda":
        return [
            PLAIN_ON_GPU,
            Way("float32"),
            Way("tf32", _LAID_OUT),
            Way("bf16"),
            Way("bf16", _LAID_OUT),
            Way("bf16", {**_LAID_OUT, "images_on_device": "auto"}),
            Way("bf16", {"activation_checkpointing": True}),
            Way("bf16", {**_LAID_OUT, **_COMPILED}),
            Way("bf16", {**_LAID_OUT, **_GRAPHS}),
        ]
    ways = [PLAIN_ON_CPU, Way("float32", _LAID_OUT), Way("bf16"), Way("bf16", _LAID_OUT)]
    ways.append(Way("float32", {"activation_checkpointing": True}))
    return [*ways, Way("float32", _COMPILED), Way("bf16", {**_LAID_OUT, **_COMPILED})] if compiles else ways


def ways_in_reach(ways: Sequence[Way], device: str) -> list[Way]:
    """Those whose step ends in a time that can be waited for: bf16 in plain loops takes a hundred times as long."""
    return [way for way in ways if way.precision != "bf16" or has_fast_bf16(device)]


@dataclass(frozen=True, slots=True)
class Case:
    """A trial in float32 whose steps are measured, how often, and by which ways; the first is the plain one."""

    name: str
    spec: TrialSpec
    rounds: int
    ways: Sequence[Way]

    def spec_by(self, way: Way) -> TrialSpec:
        """The trial in the way's precision."""
        return self.spec.model_copy(update={"precision": way.precision})


def measure_case(case: Case, folder: Path, setting: Setting) -> list[Figure]:
    """Single steps by every way and by the published one, in turns, after one of each whose memory is looked at."""
    few = replace(setting, rounds=case.rounds)
    trials = {way.name: open_trial(case.spec_by(way), folder, setting.device, way.run_options) for way in case.ways}
    calls = {way.name: with_tf32(way.precision == "tf32", loop_chunks(trials[way.name], 1)) for way in case.ways}
    plain = case.ways[0].name
    calls[PUBLISHED] = with_tf32(True, published_steps(trials[plain])[1])
    first = {name: first_call(call, setting) for name, call in calls.items()}
    seconds = take_turns(calls, few, warms_up=False)
    for trial in trials.values():
        trial.streams.close()
    rooflines = rooflines_of(case, len(trials[plain].evaluation_images.class_names), setting)
    figures = []
    for way in case.ways:
        taken = seconds[way.name]
        more = {
            "times_plain": ratio_of(taken, seconds[plain]).median,
            "first_step_seconds": first[way.name].seconds,
            "peak_mib": first[way.name].peak_mib,
            "published_peak_mib": first[PUBLISHED].peak_mib,
            **rooflines[way.precision].beside(spread_of(taken)),
        }
        ratio, name = ratio_of(taken, seconds[PUBLISHED]), f"{case.name}, {way.name}"
        figures.append(Figure("step", name, spread_of(taken), PUBLISHED, ratio, "at most 1", more))
    return figures + [layer for roofline in rooflines.values() for layer in roofline.figures(case.name)]


@dataclass(frozen=True, slots=True)
class First:
    """The first step of a way, in which networks are compiled."""

    seconds: float
    peak_mib: float


def first_call(call: Call, setting: Setting) -> First:
    """Make a first call."""
    began = time.perf_counter()
    peak = peak_memory(call, setting.device)
    wait_for(setting.device)
    return First(time.perf_counter() - began, peak)


@dataclass(frozen=True, slots=True)
class Roofline:
    """The operations of a step in one precision, and the rates of the device that it is measured on."""

    precision: Precision
    operations: Sequence[Operation]
    rates: Rates

    def beside(self, seconds: Spread) -> dict[str, float]:
        """Shares that a measured step reaches of what the device can do."""
        rate = sum(one.flop for one in self.operations) / seconds.median
        return {
            "tflop_per_second": rate / 1e12,
            "share_of_product_peak": rate / self.rates.flop,
            "share_of_roofline": sum(bound_seconds(self.operations, self.rates).values()) / seconds.median,
            "product_peak_tflop_per_second": self.rates.flop / 1e12,
            "copy_gb_per_second": self.rates.moved / 1e9,
        }

    def figures(self, case: str) -> list[Figure]:
        """The least seconds of each layer."""
        found = []
        for layer, least in bound_seconds(self.operations, self.rates).items():
            mine = [one for one in self.operations if one.layer == layer]
            more = {"gflop": sum(one.flop for one in mine) / 1e9, "mb_moved": sum(one.moved for one in mine) / 1e6}
            found.append(
                Figure("step", f"{case}, roofline in {self.precision}: {layer}", spread_of([least]), more=more)
            )
        return found


def rooflines_of(case: Case, num_classes: int, setting: Setting) -> dict[Precision, Roofline]:
    """The roofline of a case in each precision that it is stepped in."""
    found: dict[Precision, Roofline] = {}
    for way in case.ways:
        if way.precision not in found:
            spec = case.spec_by(way)
            allow_tf32(way.precision == "tf32")  # matrix products are measured in the way's precision
            rates = measured_rates(setting, computed_in(spec))
            found[way.precision] = Roofline(way.precision, step_operations(spec, num_classes), rates)
    return found
