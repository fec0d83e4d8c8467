"""A training step: the loop beside a bare one with the same operations, and the whole beside the published way."""

import copy
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from orchestrator.bench.measuring import (
    Call,
    Figure,
    Setting,
    peak_memory,
    product_peak,
    ratio_of,
    spread_of,
    take_turns,
)
from orchestrator.bench.plain import Halves, PublishedStep, bare_steps
from orchestrator.bench.rooms import NEVER, NoKeeper, Precision, classmix_spec, open_trial, workspace
from orchestrator.cost import network_cost, trained_size
from trainer.host import NoHost
from trainer.loop import Cadence, train
from trainer.machine import allow_tf32
from trainer.randomness import key_of
from trainer.spec import DeepLabV2, Mix, Network, TinyNetwork, TrialSpec
from trainer.trial import Trial

BARE, PUBLISHED = "bare loop, same operations", "published way, float32"


def measure_step(setting: Setting) -> list[Figure]:
    """The loop's own share with the smallest network, then steps of several networks and sizes."""
    with workspace() as folder:
        figures = [_measure_loop(folder, setting)]
        for name, spec, rounds in _cases(setting):
            figures.append(_measure_steps(name, spec, folder, replace(setting, rounds=rounds)))
    return figures


def _cases(setting: Setting) -> list[tuple[str, TrialSpec, int]]:
    """Name, trial and rounds of what is stepped."""
    if setting.size == "small":
        return [("tiny 32x64", classmix_spec(TinyNetwork(width=4), 32, 64), setting.rounds)]
    on_gpu = setting.device.type == "cuda"
    few = setting.rounds if on_gpu else min(3, setting.rounds)
    cases = [("tiny 64x128", classmix_spec(TinyNetwork(), 64, 128, batch=4), setting.rounds)]
    cases += [_deeplab(64, 128, 2, precision, few) for precision in _precisions(setting)]
    if setting.size == "paper":  # on the CPU one image of each kind: the published way keeps all of them at once
        cases += [_deeplab(512, 1024, 2 if on_gpu else 1, p, few if on_gpu else 1) for p in _precisions(setting)]
    return cases


def _precisions(setting: Setting) -> tuple[Precision, ...]:
    return ("tf32", "bf16") if setting.device.type == "cuda" else ("float32",)


def _deeplab(height: int, width: int, batch: int, precision: Precision, rounds: int) -> tuple[str, TrialSpec, int]:
    network: Network = DeepLabV2()
    spec = classmix_spec(network, height, width, batch=batch, precision=precision)
    return f"DeepLab-V2 {height}x{width}, batch {batch}, {precision}", spec, rounds


def _measure_loop(folder: Path, setting: Setting) -> Figure:
    """Chunks of steps by the loop and by a bare one, each with a trial of its own and the same batches."""
    spec = classmix_spec(TinyNetwork(width=4), 32, 64) if setting.size == "small" else _tiny_spec()
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


class _StopAt(NoHost):
    """Asks the loop to stop at its next record, which is one chunk on."""

    def stop_requested(self, step: int) -> bool:
        return True


def loop_chunks(trial: Trial, steps: int) -> Call:
    """Each call trains so many steps more, by the loop."""
    chunk, keeper = count(), NoKeeper()
    cadence = Cadence(log=steps, checkpoint=NEVER, evaluate=NEVER)
    return lambda: train(trial, keeper, _StopAt(), cadence, next(chunk) * steps)


def bare_chunks(trial: Trial, steps: int) -> Call:
    """Each call trains so many steps more, by a bare loop over the batches of the first ones, read beforehand."""
    chunk = count()
    ready = [trial.streams.at(step) for step in range(steps)]
    return lambda: bare_steps(trial, ready, next(chunk) * steps)


def _measure_steps(name: str, spec: TrialSpec, folder: Path, setting: Setting) -> Figure:
    """Single steps of training and of the published way, after one of each whose memory is looked at."""
    trial = open_trial(spec, folder, setting.device)
    mine = _with_tf32(spec.precision == "tf32", loop_chunks(trial, 1))
    calls = {"ours": mine, PUBLISHED: _with_tf32(True, published_steps(trial))}
    memory = {name: peak_memory(call, setting.device) for name, call in calls.items()}
    seconds = take_turns(calls, setting, warms_up=False)
    trial.streams.close()
    ours = spread_of(seconds["ours"])
    rate = step_flop(spec) / ours.median
    more = {
        "tflop": step_flop(spec) / 1e12,
        "tflop_per_second": rate / 1e12,
        "share_of_product_peak": rate / product_peak(setting, _computed_in(spec)),
        "peak_mib": memory["ours"],
        "published_peak_mib": memory[PUBLISHED],
    }
    return Figure("step", name, ours, PUBLISHED, ratio_of(seconds["ours"], seconds[PUBLISHED]), "at most 1", more)


def published_steps(trial: Trial) -> Call:
    """Each call trains one step more in the published way, on copies of the networks and always the same images."""
    student, batches, spec = trial.players["student"].network, trial.streams.at(0), trial.spec
    student = copy.deepcopy(student)
    student.autocast_dtype = None  # type: ignore[assignment]
    assert isinstance(spec.method, Mix)
    trained = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, weight_decay=5e-4, foreach=False)
    step = PublishedStep(student, copy.deepcopy(student).requires_grad_(False), optimizer, spec.method.augmentation)
    halves = Halves(batches["labeled"].image, batches["labeled"].label, batches["unlabeled"].image)
    steps = count()
    return lambda: step(halves, key=key_of(spec.seed, "strong_augmentation", next(steps)), decay=0.99)


def _with_tf32(allowed: bool, call: Call) -> Call:
    """A call for which CUDA may round factors of convolutions, and of products only as torch does by itself."""

    def with_tf32() -> None:
        allow_tf32(allowed)
        call()

    return with_tf32


def _computed_in(spec: TrialSpec) -> torch.dtype:
    return torch.bfloat16 if spec.precision == "bf16" else torch.float32


def step_flop(spec: TrialSpec) -> float:
    """FLOP of the networks in one step: a multiply-add is two, a backward pass costs two forward passes."""
    cost = network_cost(spec.network)
    assert cost is not None
    height, width = trained_size(spec)
    return (
        2 * cost.macs_per_pixel * height * width * spec.method.forward_units(spec.labeled_batch, spec.unlabeled_batch)
    )
