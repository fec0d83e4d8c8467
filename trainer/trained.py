"""Trained networks from storage: the kept weights of a finished trial, or its newest checkpoint. Knows no images.

Weights count only where they are what a sealed record names, and are read as tensors, numbers and words, never as code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainer.build import DTYPES, bare_network
from trainer.checkpoint import from_bytes, newest_checkpoint, seal_of
from trainer.machine import allow_tf32
from trainer.reading import read_manifests
from trainer.records import (
    DamagedRecord,
    Result,
    trial_path,
)
from trainer.spec import TrialSpec
from trainer.storage import Storage

NetworkName = Literal["student", "teacher"]
Weights = Mapping[str, Tensor]


class NothingTrained(ValueError):  # noqa: N818  (it names what was found)
    """There are no weights to predict with, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a trial has come to after `step` updates: weights by network, None where it has no such network."""

    spec: TrialSpec
    class_names: tuple[str, ...]
    step: int
    weights: Mapping[str, Weights | None]

    def network(self, name: NetworkName, device: torch.device) -> nn.Module:
        """One of the networks, in eval mode on a device, computing as it was judged.

        Raises: NothingTrained where the trial has no such network, or other weights than its spec has.
        """
        weights = self.weights.get(name)
        if weights is None:
            raise NothingTrained(f"{self.spec.trial_id} has no {name}: choose --network student")
        network, _ = bare_network(self.spec, len(self.class_names))
        network.to(device=device, dtype=DTYPES[self.spec.precision])  # first: weights are not to pass through another
        try:
            network.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise NothingTrained(
                f"the weights of {self.spec.trial_id} are not those of its network: {error}"
            ) from error
        network.autocast_dtype = torch.bfloat16 if self.spec.precision == "bf16" else None
        allow_tf32(self.spec.precision == "tf32")
        return network.eval()


def load_finished(folder: Storage) -> Trained:
    """The kept weights of a finished trial from its folder, which may lie anywhere: result.json and weights.pt.

    Raises: NothingTrained where it is not done or kept none; DamagedRecord where the weights are not those it names.
    """
    result = Result.find(folder, "result.json")
    if result is None:
        raise NothingTrained(
            f"{folder.name} holds no result.json: the trial is not done; run it, or take its newest checkpoint with "
            "--checkpoint"
        )
    spec = TrialSpec.model_validate(result.spec)
    if spec.trial_id != result.trial_id:
        raise DamagedRecord(
            f"the result in {folder.name} is that of {result.trial_id}, its spec that of {spec.trial_id}"
        )
    if result.weights_sha256 is None:
        raise NothingTrained(f"{result.trial_id} kept no weights (it was run with --keep nothing)")
    try:
        content = folder.read("weights.pt")
    except FileNotFoundError as error:
        raise NothingTrained(f"{folder.locate('weights.pt')} is gone, which the result names") from error
    if seal_of(content).sha256_of_file != result.weights_sha256:
        raise DamagedRecord(f"{folder.locate('weights.pt')} is not what the result names: its digest differs")
    return Trained(spec, result.class_names, result.num_steps, _tensors_in(content, folder.locate("weights.pt")))


def load_kept(storage: Storage, trial_id: str) -> Trained:
    """The same for a trial of a storage. Raises: as `load_finished`."""
    return load_finished(Storage(storage.url_of(trial_path(trial_id))))


def load_newest(storage: Storage, trial_id: str) -> Trained:
    """The newest valid checkpoint of a trial, done or not. Raises: NothingTrained where it has none."""
    found = newest_checkpoint(storage, trial_id)
    if found is None:
        raise NothingTrained(f"{trial_id} has no checkpoint in {storage.name}; of a trial that is done leave it out")
    commit, state = found
    spec = TrialSpec.model_validate_json(storage.read(trial_path(trial_id, "spec.json")))
    manifests = [each for each in read_manifests(storage, trial_id)[0] if each.attempt == commit.attempt]
    if spec.trial_id != trial_id or not manifests:
        raise DamagedRecord(f"the spec or the manifest of {trial_id} in {storage.name} is not that of its checkpoint")
    return Trained(spec, manifests[0].class_names, commit.step, _networks_in(state, trial_id))


def _networks_in(state: Any, trial_id: str) -> dict[str, Weights | None]:
    try:
        teacher = state["trial"]["teacher"]
        weights: Weights = state["trial"]["networks"]["student"]
        return {"student": weights, "teacher": None if teacher is None else teacher["network"]}
    except (KeyError, TypeError) as error:
        raise DamagedRecord(f"the checkpoint of {trial_id} holds no networks") from error


def _tensors_in(content: bytes, where: str) -> dict[str, Any]:
    try:
        weights = from_bytes(content)
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        raise DamagedRecord(f"{where} holds more than tensors, numbers and words: not loaded") from error
    if not isinstance(weights, dict):
        raise DamagedRecord(f"{where} holds no networks by name")
    return weights
