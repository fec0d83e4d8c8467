"""Runs a function on several processes that find each other through a file, each with one thread."""

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from trainer.host import Host, NoHost
from trainer.run import run_trial
from trainer.spec import RunOptions, TrialSpec

ROOT = Path(__file__).parents[1]
# What takes seconds to import is imported once, by the server that every rank is forked from.
multiprocessing.set_forkserver_preload(["torch._dynamo", "torchvision.transforms.v2", "pyarrow.fs", "pydantic"])


def run_ranks(function: Callable[..., None], world_size: int, *arguments: Any) -> None:
    """Call `function(*arguments)` on every rank of a gloo group; it must be importable by its name.

    One rank needs no process of its own: the function runs here, without a group.
    """
    if world_size == 1:
        function(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])  # the children import this module by its name
        try:
            multiprocessing.start_processes(
                _one_rank, (world_size, folder, function, arguments), nprocs=world_size, start_method="forkserver"
            )
        except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as error:
            # torch tells of one rank, often one that only noticed that another had gone.
            traces = [path.read_text() for path in sorted(Path(folder).glob("*.trace"), key=_by_time)]
            raise AssertionError("\n\n".join([*traces, str(error)])) from None


def _one_rank(rank: int, world_size: int, folder: str, function: Callable[..., None], arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    try:
        function(*arguments)
    except BaseException:
        Path(folder, f"{rank}.trace").write_text(f"rank {rank}, {time.ctime()}:\n{traceback.format_exc()}")
        raise
    dist.destroy_process_group()


def _by_time(path: Path) -> float:
    return path.stat().st_mtime


def train_all(specs: Mapping[str, TrialSpec], options: RunOptions, host: Host | None = None) -> None:
    """Run every trial to its end, as a rank of whatever group there is."""
    for name, spec in specs.items():
        outcome = run_trial(spec, options, host or NoHost())
        assert outcome.kind == "done", f"{name}: {outcome}"
