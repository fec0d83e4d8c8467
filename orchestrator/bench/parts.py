"""The parts of the bench by name, and what is set before one is measured."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch

from orchestrator.bench.evaluating import measure_evaluate
from orchestrator.bench.loader import measure_loader
from orchestrator.bench.masks import measure_masks
from orchestrator.bench.measuring import Figure, Setting, Size
from orchestrator.bench.sharing import measure_sharing
from orchestrator.bench.startup import measure_startup
from orchestrator.bench.stepping import measure_step
from trainer.machine import choose_device, keep_freed_memory
from trainer.spec import RunOptions

MEASURES: Mapping[str, Callable[[Setting], list[Figure]]] = {
    "masks": measure_masks,
    "loader": measure_loader,
    "evaluate": measure_evaluate,
    "step": measure_step,
    "startup": measure_startup,
    "sharing": measure_sharing,
}


def prepared(*, device: Literal["auto", "cpu", "cuda"], threads: int, rounds: int, size: Size) -> Setting:
    """The setting, with this process made as that of a trial."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    chosen = choose_device(RunOptions(device=device))
    return Setting(chosen, threads, rounds, size)


def measure(part: str, setting: Setting) -> list[Figure]:
    """The figures of a part."""
    return MEASURES[part](setting)
