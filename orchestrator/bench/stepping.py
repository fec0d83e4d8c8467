"""A training step: the loop beside a bare one with the same operations, and every way beside the published one."""

from dataclasses import replace
from pathlib import Path

from orchestrator.bench.measuring import Figure, Setting, ratio_of, spread_of, take_turns
from orchestrator.bench.rooms import classmix_spec, open_trial, workspace
from orchestrator.bench.steps import bare_chunks, loop_chunks, published_steps, step_flop
from orchestrator.bench.ways import Case, Way, measure_case, ways_in_reach, ways_on
from trainer.spec import DeepLabV2, TinyNetwork, TrialSpec

__all__ = ["loop_chunks", "measure_step", "published_steps", "step_flop"]
BARE = "bare loop, same operations"


def measure_step(setting: Setting) -> list[Figure]:
    """The loop's own share with the smallest network, then steps of several networks and sizes by several ways."""
    with workspace() as folder:
        figures = [_measure_loop(folder, setting)]
        for case in _cases(setting):
            in_reach = replace(case, ways=ways_in_reach(case.ways, setting.device.type))
            figures += measure_case(in_reach, folder, setting)
    return figures


def _cases(setting: Setting) -> list[Case]:
    device = setting.device.type
    if setting.size == "small":
        spec = classmix_spec(TinyNetwork(width=8), 32, 64)
        return [Case("tiny 32x64", spec, setting.rounds, ways_on(device, compiles=device == "cuda"))]
    on_gpu = device == "cuda"
    few = setting.rounds if on_gpu else min(3, setting.rounds)
    cases = [
        Case("tiny 64x128", _tiny_spec(), setting.rounds, ways_on(device, compiles=True)),
        _deeplab(64, 128, 2, few, ways_on(device, compiles=on_gpu)),
    ]
    if setting.size == "paper" and on_gpu:
        cases.append(_deeplab(512, 1024, 2, few, ways_on(device, compiles=True)))
    elif setting.size == "paper":  # one image of each kind: the published way keeps the activations of both at once
        cases = [_deeplab(512, 1024, 1, min(2, few), PAPER_ON_CPU)]
    return cases


PAPER_ON_CPU = [Way("float32"), Way("bf16", {"channels_last": True})]
"""Each step takes most of a minute on two cores."""


def _deeplab(height: int, width: int, batch: int, rounds: int, ways: list[Way]) -> Case:
    spec = classmix_spec(DeepLabV2(), height, width, batch=batch)
    return Case(f"DeepLab-V2 {height}x{width}, batch {batch}", spec, rounds, ways)


def _measure_loop(folder: Path, setting: Setting) -> Figure:
    """Chunks of steps by the loop and by a bare one, each with a trial of its own and the same batches."""
    spec = classmix_spec(TinyNetwork(width=8), 32, 64) if setting.size == "small" else _tiny_spec()
    steps = 2 if setting.size == "small" else 10
    mine, other = (open_trial(spec, folder, setting.device) for _ in range(2))
    chunks = {"loop": loop_chunks(mine, steps), BARE: bare_chunks(other, steps)}
    seconds = take_turns(chunks, setting)
    for trial in (mine, other):
        trial.streams.close()
    per_step = [taken / steps for taken in seconds["loop"]]
    return Figure(
        "step",
        "loop, tiny network",
        spread_of(per_step),
        BARE,
        ratio_of(seconds["loop"], seconds[BARE]),
        "at most 1.05",
    )


def _tiny_spec() -> TrialSpec:
    return classmix_spec(TinyNetwork(), 64, 128, batch=4)
