"""DDP's options beside each other on gloo ranks of this machine: the same bits or not, resumed or not, and how fast.

    python -m tests.benchmarks.ddp_options [--ranks 2] [--rounds 9] [--deeplab] [--activation-checkpointing]

For every named method six float64 steps by each way are compared with those of the trainer's own, then six steps with
three, a stop and three; steps of ClassMix by all ways take turns, so that what else the machine does meets all alike.
What was seen is in docs/performance.md.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from orchestrator.bench.measuring import ratio_of, spread_of
from orchestrator.bench.rooms import classmix_spec, open_trial
from orchestrator.bench.steps import loop_chunks
from tests.conftest import write_small_dataset
from tests.contracts import small_options, small_spec
from tests.worlds import run_ranks
from trainer.build import trials
from trainer.checkpoint import from_bytes
from trainer.host import NoHost
from trainer.records import trial_path
from trainer.run import run_trial
from trainer.spec import NAMED_METHODS, DeepLabV2, RunOptions, TinyNetwork, TrialSpec
from trainer.storage import Storage

OURS = "the trainer's own"
WAYS: Mapping[str, Mapping[str, bool]] = {
    OURS: {},
    "gradients copied to buckets": {"gradient_as_bucket_view": False},
    "buckets laid out anew": {"find_unused_parameters": False},
    "static graph": {"find_unused_parameters": False, "static_graph": True},
}


class _StopAt(NoHost):
    def __init__(self, step: int) -> None:
        self._step = step

    def stop_requested(self, step: int) -> bool:
        return step == self._step


@contextmanager
def by_way(name: str) -> Iterator[None]:
    """Wrap networks by another way while it lasts."""

    def wrapped(network: Any, **options: Any) -> DistributedDataParallel:
        return DistributedDataParallel(network, **{**options, **WAYS[name]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "DistributedDataParallel", wrapped)
        yield


# --- on every rank ------------------------------------------------------------------------------------------------


def train_by_every_way(specs: Mapping[str, TrialSpec], options: RunOptions) -> None:
    """Train every spec by every way, at once and in two halves; what goes wrong is noted, for all ranks alike."""
    for number, way in enumerate(WAYS):
        for method, spec in specs.items():
            for halves in (False, True):
                place = options.changed(storage=f"{options.storage}/{number}-{int(halves)}")
                try:
                    with by_way(way):
                        if halves:
                            run_trial(spec, place, _StopAt(3))
                        run_trial(spec, place, NoHost())
                except Exception as error:
                    if dist.get_rank() == 0:
                        note = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                        Storage(place.storage).write(f"{method}.error", note.encode())


def time_every_way(spec: TrialSpec, folder: str, rounds: int, steps: int) -> None:
    """Seconds of a step by each way in each round, as rank 0 sees them, into times.json."""
    trial_of, seconds = {}, {way: list[float]() for way in WAYS}
    for way in WAYS:
        with by_way(way):
            trial_of[way] = open_trial(spec, Path(folder), torch.device("cpu"))
    chunks = {way: loop_chunks(trial, steps) for way, trial in trial_of.items()}
    for place in range(rounds + 1):
        for way, call in chunks.items():
            dist.barrier()
            began = time.perf_counter()
            call()
            seconds[way] += [(time.perf_counter() - began) / steps] if place else []
    for trial in trial_of.values():
        trial.streams.close()
    if dist.get_rank() == 0:
        Path(folder, "times.json").write_text(json.dumps(seconds))


# --- what is said -------------------------------------------------------------------------------------------------


def weights_of(folder: str, spec: TrialSpec) -> dict[str, Tensor] | None:
    """The student's final weights; None where the trial did not come to its end."""
    path = trial_path(spec.trial_id, "weights.pt")
    storage = Storage(folder)
    found: dict[str, Tensor] | None = from_bytes(storage.read(path))["student"] if storage.exists(path) else None
    return found


def apart(one: Mapping[str, Tensor] | None, other: Mapping[str, Tensor] | None) -> str:
    """How far two sets of weights are from each other, in words."""
    if one is None or other is None:
        return "no weights"
    most = max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
    return "same bits" if most == 0 else f"{most:.1e} apart"


def say_bits(folder: str, specs: Mapping[str, TrialSpec]) -> None:
    """Print each way beside ours and resumed beside itself, method by method."""
    for number, way in enumerate(WAYS):
        for method, spec in specs.items():
            ours, here, resumed = (
                weights_of(f"{folder}/{place}", spec) for place in ("0-0", f"{number}-0", f"{number}-1")
            )
            errors = [Storage(f"{folder}/{number}-{half}") for half in (0, 1)]
            notes = {s.read(f"{method}.error").decode() for s in errors if s.exists(f"{method}.error")}
            print(
                f"{way:<28} {method:<24} beside ours: {apart(ours, here):<14} resumed: {apart(here, resumed)}", *notes
            )


def say_times(folder: str) -> None:
    """Print the seconds of a step by each way, and how many times ours."""
    seconds = json.loads(Path(folder, "times.json").read_text())
    for way, taken in seconds.items():
        step, ratio = spread_of(taken), ratio_of(taken, seconds[OURS])
        times = f"{ratio.median:.3f} ({ratio.low:.3f} – {ratio.high:.3f}) of ours"
        print(f"{way:<28} {step.median * 1e3:.1f} ms a step, {times}")


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9, help="0: bits alone")
    parser.add_argument("--methods", default=",".join(NAMED_METHODS), help="those whose bits are compared; '': none")
    parser.add_argument("--activation-checkpointing", action="store_true", help="recompute, for the bits")
    parser.add_argument("--deeplab", action="store_true", help="time DeepLab-V2 at 64 x 128 as well")
    given = parser.parse_args()
    specs = {name: small_spec(name) for name in given.methods.split(",") if name}
    with tempfile.TemporaryDirectory() as folder:
        write_small_dataset(Path(folder) / "data")
        options = small_options(
            Path(folder),
            Path(folder) / "runs",
            checkpoint_every=3,
            activation_checkpointing=given.activation_checkpointing,
        )
        run_ranks(train_by_every_way, given.ranks, specs, options)
        say_bits(f"{folder}/runs", specs)
        cases = {"tiny 64 x 128, batch 4 + 4": (classmix_spec(TinyNetwork(), 64, 128, batch=4), given.rounds, 10)}
        if given.deeplab:
            cases["DeepLab-V2 64 x 128, batch 2 + 2"] = (classmix_spec(DeepLabV2(), 64, 128), min(given.rounds, 4), 1)
        for name, (spec, rounds, steps) in cases.items() if given.rounds else ():
            print(f"{name}, {given.ranks} ranks, {rounds} rounds")
            run_ranks(time_every_way, given.ranks, spec, f"{folder}", rounds, steps)
            say_times(folder)


if __name__ == "__main__":
    main()
