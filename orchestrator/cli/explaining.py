"""What `explain` says of a number."""

from rich.console import Console

from experiments.table import Cell, Table
from trainer.records import Storage, read_manifests, read_trial, trial_path
from trainer.spec import canonical_json


def describe(console: Console, table: Table, cell: Cell, storage: Storage) -> None:
    """Print one cell: state, numbers, spec, digests, attempts, and the command that makes it again."""
    say = _Sayer(console)
    state, result = read_trial(storage, cell.trial_id)
    console.print(f"{cell.name} of table {table.name}", style="bold", markup=False, highlight=False)
    say("trial", cell.trial_id)
    say("state", f"{state.kind} {state.detail}".strip())
    say("spec", canonical_json(cell.spec))
    say("folder", storage.locate(trial_path(cell.trial_id)))
    if result is not None:
        for record in result.evaluations:
            mean = "undefined" if record.mean_iou is None else f"{record.mean_iou!r}"
            left_out = f", {record.num_undefined} classes undefined" if record.num_undefined else ""
            size = f"{record.eval_size[0]} x {record.eval_size[1]}"
            say(f"step {record.step}", f"{record.network} mean IoU {mean} at {size}{left_out}")
        for name, digest in result.digests.model_dump().items():
            say(name, digest)
        say("weights kept", result.weights_sha256 or "none")
        say("trained for", f"{result.wall_seconds:.1f} s")
    _attempts(say, cell, storage)
    say("by hand", f"mixgrid train {storage.locate(trial_path(cell.trial_id, 'spec.json'))} --storage OTHER --data DIR")


def _attempts(say: "_Sayer", cell: Cell, storage: Storage) -> None:
    manifests, damage = read_manifests(storage, cell.trial_id)
    for manifest in manifests:
        versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
        say(
            "attempt",
            f"{manifest.attempt} from step {manifest.resumed_from_step} on {manifest.host}, {manifest.device}, "
            f"{manifest.world_size} ranks, {manifest.threads} threads; {manifest.num_labeled} labelled and "
            f"{manifest.num_unlabeled} unlabelled images; {versions}",
        )
    for line in damage:
        say("attempt", line)


class _Sayer:
    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, title: str, text: str) -> None:
        self._console.print(f"  {title:<13}{text}", markup=False, highlight=False, soft_wrap=True)
