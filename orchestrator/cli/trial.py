"""Commands about one trial and about this machine."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import CacheFolder, DataFolder, StorageUrl, WeightsFolder, that_trains
from trainer.reading import trial_state
from trainer.spec import RunOptions, read_spec
from trainer.storage import Storage

if TYPE_CHECKING:
    from trainer.models.weights import KnownFile


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(train)
    app.command()(doctor)


@that_trains
def train(
    options: RunOptions,
    spec: Annotated[Path, typer.Argument(metavar="SPEC.json", help="A trial's spec, as `runs/trials/…/spec.json`.")],
    storage: StorageUrl = "runs",
    threads: Annotated[int, typer.Option(help="Torch threads of one rank.")] = 1,
    restart: Annotated[bool, typer.Option("--restart", help="Start anew if half done.")] = False,
) -> None:
    """Train one trial without Ray, alone or under torchrun or Slurm; the same numbers as in the grid."""
    content, place = read_spec(spec), Storage(storage)
    from orchestrator.lease import hold_one
    from orchestrator.pruning import forget
    from results.glance import leave_glance
    from trainer.distributed import launched_rank, torchrun_group
    from trainer.host import ProcessHost
    from trainer.run import run_trial

    is_first = launched_rank() == 0
    with hold_one(place, content.trial_id, is_first=is_first) as is_asked_to_stop, torchrun_group(options.device):
        if restart and is_first and trial_state(place, content.trial_id).kind != "done":
            forget(place, content.trial_id)
        host = ProcessHost(is_asked_to_stop)
        outcome = run_trial(content, options.changed(storage=storage, threads=threads), host)
    if is_first and outcome.kind == "done":
        leave_glance(place, content.trial_id)
    print(f"{content.trial_id}: {outcome.kind} {outcome.message}".rstrip())
    raise typer.Exit({"done": 0, "stopped": 130}.get(outcome.kind, 1))


def doctor(
    data: DataFolder = "data",
    cache: CacheFolder = None,
    weights: WeightsFolder = None,
) -> None:
    """Say what this machine has: libraries, devices, data and weights, and where to put what is missing."""
    import torch

    from trainer.data.cache import cache_folder, weights_folder
    from trainer.machine import versions
    from trainer.models.weights import known_files

    for name, version in versions().items():
        print(f"{name:<12} {version}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'devices':<12} {', '.join(devices) or 'no CUDA device: trials run on the CPU'}")
    for name in ("cityscapes", "camvid"):
        folder = Path(data) / name
        print(f"{name:<12} {folder} {'is there' if folder.is_dir() else 'is missing (--data or MIXGRID_DATA)'}")
    folder = weights_folder(weights, data=data, cache=cache)
    print(f"{'weights':<12} {folder} {'is there' if folder.is_dir() else 'is missing'} (--weights or MIXGRID_WEIGHTS)")
    for known in known_files(folder):
        print(f"{'':<12} {known.backbone} {known.kind}: {_what_there_is(known)}")
    print(f"{'cache':<12} {cache_folder(cache)}")


def _what_there_is(known: "KnownFile") -> str:
    if not known.found:
        return f"absent: {known.pattern}; {known.cure}"
    files = ", ".join(f"{name} (sha256 {digest[:12]}{_named_otherwise(name, digest)})" for name, digest in known.found)
    return f"present: {files}" if len(known.found) == 1 else f"present more than once, keep one: {files}"


def _named_otherwise(name: str, digest: str) -> str:
    """A remark where a name ends in eight hex digits, as torch's do, with which the digest does not begin."""
    promised = re.search(r"-([0-9a-f]{8})\.[a-z]+$", name)
    return f", its name says {promised[1]}" if promised and not digest.startswith(promised[1]) else ""
