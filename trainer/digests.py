"""What a half-done trial must find unchanged to go on, and all ranks alike."""

import hashlib

from trainer.code import changed_files, code_digest
from trainer.data.cache import CachedSplit
from trainer.data.splits import Split
from trainer.distributed import gather_objects, world_size
from trainer.errors import SetupError
from trainer.models.weights import WeightsReport
from trainer.records import (
    Commit,
    Digests,
)
from trainer.spec import TrialSpec
from trainer.storage import Storage


class ChangedSinceCheckpoint(SetupError):  # noqa: N818
    """A half-done trial is not continued on other code, data, split, weights or precision."""


def digests_of(
    spec: TrialSpec, train_images: CachedSplit, eval_images: CachedSplit, split: Split, weights: WeightsReport
) -> Digests:
    """What a half-done trial must find unchanged to go on."""
    data = hashlib.sha256(f"{train_images.digest} {eval_images.digest}".encode()).hexdigest()
    return Digests(code=code_digest(), data=data, split=split.digest, weights=weights.sha256, precision=spec.precision)


def explain_change(storage: Storage, trial_id: str, commit: Commit, digests: Digests) -> str:
    """Name what changed since a checkpoint, files of the code included where they are known, and the cure."""
    before, now = commit.digests.model_dump(), digests.model_dump()
    changed = ", ".join(
        f"{name} ({before[name][:12]} -> {now[name][:12]})" for name in now if before[name] != now[name]
    )
    files = changed_files(storage, before["code"]) if before["code"] != now["code"] else ()
    named = f"; of the code: {', '.join(files)}" if files else ""
    return (
        f"{trial_id} is trained up to step {commit.step}, but since then these have changed: {changed}{named}. Go back "
        "to what they were, start it anew with --restart, or go on all the same with --accept-change"
    )


def agree_on(digests: Digests) -> None:
    """Raises: SetupError on every rank unless all ranks have the same code, pixels, split and weights."""
    if world_size() == 1:
        return
    gathered = gather_objects(digests.model_dump())
    differing = sorted({name for other in gathered for name in other if other[name] != gathered[0][name]})
    if differing:
        raise SetupError(
            f"the ranks of this trial do not have the same {', '.join(differing)}: put the same release of mixgrid and "
            "the same files on every node"
        )
