"""What becomes of a stale result: it is accepted as it stands, or set aside so that its trial is trained again."""

import getpass
import time
from collections.abc import Mapping
from contextlib import suppress

from orchestrator.lease import Lease
from trainer.reading import checkpoint_folders, read_accepted
from trainer.records import (
    Acceptance,
    AcceptedChange,
    Result,
    attempt_path,
    superseded_path,
    trial_path,
)
from trainer.storage import Storage


def accept(storage: Storage, trial_id: str, *, attempt: str, facts: Mapping[str, str], why: str) -> None:
    """Note that somebody lets the result of an attempt stand though these digests and versions are here now.

    What was accepted before stays noted; the record is written whole or not at all.
    """
    change = AcceptedChange(attempt=attempt, accepted=time.time(), by=_person(), why=why, facts=dict(facts))
    changes = (*read_accepted(storage, trial_id), change)
    storage.write(trial_path(trial_id, "accepted.json"), Acceptance(trial_id=trial_id, changes=changes).sealed())


def _person() -> str:
    with suppress(OSError, KeyError):  # a container may run as a user without a name
        return getpass.getuser()
    return "unknown"


def supersede(storage: Storage, table_name: str, stale: Mapping[str, str]) -> list[str]:
    """Set stale results aside, so that their trials are trained from the start.

    A result stays byte for byte in `superseded`, with its manifests, logs and metric records; it is there before
    anything goes, and result.json goes last: whoever dies in between leaves a trial that is done. Weights and picture
    stay until the new ones take their place. Trials that a live driver holds are left alone.

    Args:
        stale: by trial id, the attempt whose result was found stale; a newer result is not touched.
    Returns: the trials whose results were set aside, sorted.
    """
    if not stale:
        return []
    with Lease(storage, table_name, stale) as lease:
        done = [trial_id for trial_id in sorted(lease.trial_ids) if _set_aside(storage, trial_id, stale[trial_id])]
    storage.remove(f"drivers/{lease.name}.json")
    return done


def _set_aside(storage: Storage, trial_id: str, attempt: str) -> bool:
    path = trial_path(trial_id, "result.json")
    try:
        content = storage.read(path)
    except FileNotFoundError:
        return False
    if Result.opened(content, where=storage.locate(path)).attempt != attempt:
        return False
    storage.write(superseded_path(trial_id, attempt), content)
    _remove_what_would_be_resumed(storage, trial_id)
    storage.remove(path)
    return True


def _remove_what_would_be_resumed(storage: Storage, trial_id: str) -> None:
    """Remove checkpoints and the labels of rounds: the new training must find nothing of them."""
    for attempt, name in checkpoint_folders(storage, trial_id):
        storage.remove(attempt_path(trial_id, attempt, name))
    for name in storage.names(trial_path(trial_id, "labels")):
        if name.endswith(".arrow"):
            storage.remove(trial_path(trial_id, "labels", name))
