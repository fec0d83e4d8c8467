"""Labels of a round of self-training in storage: written once, with a marker behind them, and found again."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from trainer.checkpoint import seal_of
from trainer.data.folders import DataError
from trainer.data.pool_labels import PoolLabels, read_pool_labels
from trainer.distributed import agreed, rank
from trainer.errors import SetupError
from trainer.reading import find_round_labels
from trainer.records import (
    DamagedRecord,
    Digests,
    RoundLabels,
    labels_path,
    trial_path,
)
from trainer.storage import Storage

_LOG = logging.getLogger("mixgrid.rounds")


def labels_of_round(
    storage: Storage, *, trial_id: str, attempt: str, step: int, digests: Digests, make: Callable[[], PoolLabels]
) -> PoolLabels:
    """The labels of the round that begins after `step` updates, equal on every rank.

    Those that an earlier attempt on the same code, data, split and weights made are taken; else they are made, by all
    ranks together, and kept. Labels without their marker never count.
    """
    labels = agreed(lambda: _kept(storage, trial_id, step, digests))
    if labels is not None:
        _LOG.info("the labels of the round after step %d were made before: taken", step)
        return labels
    labels = make()
    agreed(lambda: _keep(storage, labels, trial_id=trial_id, attempt=attempt, step=step, digests=digests))
    return labels


def labels_of_checkpoint(storage: Storage, *, trial_id: str, sha256: str) -> PoolLabels:
    """The labels that a checkpoint within a round was trained on. Raises: SetupError where they cannot be had."""
    found = agreed(lambda: _with_digest(storage, trial_id, sha256))
    if found is None:
        raise SetupError(
            f"the labels {sha256[:12]} on which the newest checkpoint of {trial_id} was trained are gone or damaged "
            f"({storage.locate(trial_path(trial_id, 'labels'))}): bring them back, or start it anew with --restart"
        )
    return found


def _kept(storage: Storage, trial_id: str, step: int, digests: Digests) -> PoolLabels | None:
    for marker in find_round_labels(storage, trial_id, step):
        if marker.digests == digests:
            with suppress(DamagedRecord):
                return _read(storage, marker)
    return None


def _with_digest(storage: Storage, trial_id: str, sha256: str) -> PoolLabels | None:
    for name in sorted(storage.names(trial_path(trial_id, "labels"))):
        if name.endswith(f"-{sha256[:12]}.json"):
            with suppress(DamagedRecord):
                marker = RoundLabels.find(storage, trial_path(trial_id, "labels", name))
                if marker is not None and marker.file.sha256_of_file == sha256:
                    return _read(storage, marker)
    return None


def _read(storage: Storage, marker: RoundLabels) -> PoolLabels:
    path = labels_path(marker.trial_id, marker.step, marker.file.sha256_of_file, "arrow")
    try:
        content = storage.read(path)
        if seal_of(content) != marker.file:
            raise DamagedRecord(f"{storage.locate(path)} was changed after it was written")
        return read_pool_labels(content, marker.about)
    except (FileNotFoundError, DataError) as error:
        raise DamagedRecord(f"{storage.locate(path)} cannot be read: {error}") from error


def _keep(storage: Storage, labels: PoolLabels, *, trial_id: str, attempt: str, step: int, digests: Digests) -> None:
    content = labels.to_bytes()
    seal = seal_of(content)
    storage.write(labels_path(trial_id, step, seal.sha256_of_file, "arrow"), content)
    marker = RoundLabels(
        trial_id=trial_id,
        attempt=attempt,
        step=step,
        time=time.time(),
        digests=digests,
        num_images=len(labels.packed),
        file=seal,
        about=dict(labels.about),
    )
    storage.write(labels_path(trial_id, step, seal.sha256_of_file, "json"), marker.sealed())


def remove_labels(storage: Storage, trial_id: str) -> None:
    """Remove the labels of a finished trial; their markers stay, with what they say of them."""
    if rank() == 0:
        for name in storage.names(trial_path(trial_id, "labels")):
            if name.endswith(".arrow"):
                storage.remove(trial_path(trial_id, "labels", name))
