"""Hung et al.: a discriminator of label maps teaches the student, and marks what the student may teach itself."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.distributed import global_sum
from trainer.losses import (
    IGNORE_INDEX,
    batch_mean,
    binary_cross_entropy_map,
    global_mean,
    supervised_loss,
    whole_batch_mean,
)
from trainer.methods.base import Batch, Method, Networks, Objective, Phase, Stream
from trainer.metrics import most_likely
from trainer.spec import Adversarial

REAL, FAKE = 1.0, 0.0


class AdversarialMethod(Method):
    """Cross-entropy, an adversarial loss on labelled and on unlabelled predictions, and a self-taught loss.

    A step in the published order: the student on unlabelled, then on labelled images; the discriminator on the
    predictions as they were before the student moved, then on ground truth of a stream of its own.

    Source: Hung et al. 2018, arXiv:1802.07934, in the form of AdvSemiSeg's train.py (docs/methods.md, card 4), which
    has no Cityscapes of its own. Differs: the ids of the three streams are drawn by the split's seed.
    """

    players = ("student", "discriminator")

    def __init__(
        self, spec: Adversarial, *, num_classes: int, labeled_batch: int, unlabeled_batch: int, num_steps: int
    ) -> None:
        self.discriminator = spec.discriminator
        self._spec = spec
        self._num_classes = num_classes
        self._batches = (labeled_batch, unlabeled_batch)
        self._num_steps = num_steps

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Labelled and unlabelled images, and labelled ones whose truth the discriminator sees."""
        return streams_with_truth(*self._batches)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One phase; what starts later starts within it."""
        return (Phase(0, self._num_steps, has_teacher=False),)

    def objectives(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Iterator[Objective]:
        """The student's parts, then the discriminator's."""
        fakes: list[tuple[Tensor, Tensor]] = []  # probabilities [n, C, H, W] without gradient, valid_mask [n, H, W]
        if self._sees_unlabeled(step):
            probs, objective = self._on_unlabeled(networks, batches["unlabeled"], step)
            yield objective
            if self._spec.discriminator_sees_unlabeled:
                fakes.append((probs, torch.ones_like(probs[:, 0], dtype=torch.bool)))
        probs, objective = self._on_labeled(networks, batches["labeled"])
        yield objective
        fakes.append((probs, batches["labeled"].label != IGNORE_INDEX))
        fake, valid_mask = (torch.cat(parts) for parts in zip(*fakes, strict=True))
        yield discriminator_objective(networks.discriminator, fake, valid_mask, FAKE)
        truth = batches["truth"].label
        real = one_hot(truth, self._num_classes, fake.dtype)
        yield discriminator_objective(networks.discriminator, real, truth != IGNORE_INDEX, REAL)

    def _sees_unlabeled(self, step: int) -> bool:
        """As published: from the start on where either loss has a weight, though the self-taught one begins later."""
        has_weight = self._spec.unlabeled_adversarial_weight > 0 or self._spec.self_taught_weight > 0
        return has_weight and step >= self._spec.unlabeled_adversarial_start

    def _is_self_taught(self, step: int) -> bool:
        return self._spec.self_taught_weight > 0 and step >= self._spec.self_taught_start

    def _on_labeled(self, networks: Networks, batch: Batch) -> tuple[Tensor, Objective]:
        assert networks.critic is not None
        logits = networks.student(batch.image)
        supervised = supervised_loss(logits, batch.label)
        probs = torch.softmax(logits, dim=1)
        adversarial = judged_as(networks.critic(probs), batch.label != IGNORE_INDEX, REAL)
        scalars = {
            "supervised_loss": whole_batch_mean(supervised),
            "adversarial_loss": whole_batch_mean(adversarial),
        }
        loss = supervised + self._spec.labeled_adversarial_weight * adversarial
        return probs.detach(), Objective("student", loss, scalars)

    def _on_unlabeled(self, networks: Networks, batch: Batch, step: int) -> tuple[Tensor, Objective]:
        assert networks.critic is not None
        logits = networks.student(batch.image)
        probs = torch.softmax(logits, dim=1)
        judgement = networks.critic(probs)
        adversarial = judged_as(judgement, torch.ones_like(judgement, dtype=torch.bool), REAL)
        scalars = {"unlabeled_adversarial_loss": whole_batch_mean(adversarial)}
        loss = self._spec.unlabeled_adversarial_weight * adversarial
        if self._is_self_taught(step):
            trusted = torch.sigmoid(judgement.detach()) >= self._spec.self_taught_threshold
            self_taught = self_taught_loss(logits, trusted)
            scalars["self_taught_loss"] = whole_batch_mean(self_taught)
            scalars["confident_fraction"] = batch_mean(trusted.to(logits.dtype))
            if self._spec.drops_adversarial_when_unconfident:
                loss = loss * (global_sum(trusted.sum()) > 0)
            loss = loss + self._spec.self_taught_weight * self_taught
        scalars["unlabeled_loss"] = whole_batch_mean(loss)
        return probs.detach(), Objective("student", loss, scalars)


def streams_with_truth(labeled_batch: int, unlabeled_batch: int) -> tuple[Stream, ...]:
    """What a method with a discriminator reads; "truth" has an order of its own, as the third loader of both codes."""
    return (
        Stream("labeled", "labeled", labeled_batch),
        Stream("unlabeled", "unlabeled", unlabeled_batch),
        Stream("truth", "labeled", labeled_batch),
    )


def self_taught_loss(logits: Tensor, trusted: Tensor) -> Tensor:
    """Cross-entropy against the student's own arg-max, mean over the trusted pixels of the global batch.

    Args:
        logits: [n, C, H, W].
        trusted: [n, H, W] bool.
    Returns: scalar; zero where no pixel is trusted.
    Source: AdvSemiSeg train.py: pixels whose judgement is below the threshold are ignored.
    """
    pseudo_label = torch.where(trusted, most_likely(logits.detach()), IGNORE_INDEX)
    return supervised_loss(logits, pseudo_label)


def judged_as(judgement: Tensor, valid_mask: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of logits [n, H, W] against one target over the valid pixels of the global batch."""
    loss = torch.where(valid_mask, binary_cross_entropy_map(judgement, target), 0.0)
    return global_mean(loss.sum(), valid_mask.sum())


def discriminator_objective(discriminator: Any, class_probs: Tensor, valid_mask: Tensor, target: float) -> Objective:
    """Half of the discriminator's loss: on fakes or on real maps. Source: AdvSemiSeg train.py, loss_D / 2."""
    loss = judged_as(discriminator(class_probs), valid_mask, target)
    word = "real" if target == REAL else "fake"
    return Objective("discriminator", loss / 2, {f"discriminator_{word}_loss": whole_batch_mean(loss)})


def one_hot(label: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """[n, H, W] int64 to [n, C, H, W]; ignored pixels belong to no class. Source: AdvSemiSeg and s4GAN, one_hot.

    torch's function of that name makes eight bytes of every value first and asks the host whether labels are in range.
    """
    classes = torch.arange(num_classes, device=label.device).view(1, -1, 1, 1)
    return (label.unsqueeze(1) == classes).to(dtype)
