"""Mean teacher on mixed unlabelled images: CutMix, ClassMix, CowMix and ComplexMix differ in their mask alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.transforms import strong_augmentation
from trainer.distributed import next_of_global_batch
from trainer.losses import (
    batch_mean,
    cross_entropy_map,
    pixel_mean,
    soft_cross_entropy_map,
    squared_difference_map,
    whole_batch_mean,
)
from trainer.methods.base import Batch, Method, Networks, Objective, Phase, Stream
from trainer.methods.masks import MaskFn
from trainer.methods.supervised import supervised_objective
from trainer.metrics import highest
from trainer.randomness import key_of, sample_keys
from trainer.schedules import ramp_up
from trainer.spec import Mix


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """What the student learns from: mixed images and what the teacher says of them.

    `image` [n, 3, H, W] in [0, 1], before strong augmentation; `confidence` and `pseudo_label` [n, H, W], the largest
    mixed probability and its class; `mix_mask` [n, 1, H, W]; `probs` [n, C, H, W], the mixed probabilities, None where
    a mask of whole pixels and a loss on classes alone make it enough to mix what is found before.
    """

    image: Tensor
    confidence: Tensor
    pseudo_label: Tensor
    mix_mask: Tensor
    probs: Tensor | None = None


class MixMethod(Method):
    """Supervised loss on labelled images plus consistency on mixed unlabelled ones.

    Source: ComplexMix sections 3.1 and 3.2; where it is silent, ClassMix's code (docs/methods.md cards 8 and 8A, and
    section 13 for what was decided). Image i is pasted onto image i + 1 of the global batch, cyclic, so a batch of two
    is mixed in both directions.
    """

    def __init__(
        self, spec: Mix, mask: MaskFn, *, labeled_batch: int, unlabeled_batch: int, num_steps: int, seed: int
    ) -> None:
        self.teacher = spec.teacher
        self._spec = spec
        self._mask = mask
        self._batches = (labeled_batch, unlabeled_batch)
        self._num_steps = num_steps
        self._seed = seed

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Labelled and unlabelled images, and a second stream of unlabelled ones where pairs come from two."""
        labeled, unlabeled = self._batches
        streams = (Stream("labeled", "labeled", labeled), Stream("unlabeled", "unlabeled", unlabeled))
        return (*streams, Stream("partner", "unlabeled", unlabeled)) if self._has_partners else streams

    @property
    def _has_partners(self) -> bool:
        return self._spec.pairs == "two_streams"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The supervised start, where asked for, then mixing; the teacher is copied when mixing begins."""
        start = self._spec.supervised_start
        mixing = Phase(start, self._num_steps - start, ("copy_teacher",))
        return (Phase(0, start, has_teacher=False, streams=("labeled",)), mixing) if start else (mixing,)

    def objectives(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Iterator[Objective]:
        """The supervised loss, then, after the supervised start, the consistency loss."""
        yield supervised_objective(networks, batches["labeled"])
        if step >= self._spec.supervised_start:
            yield self._consistency(networks, batches, step)

    def _consistency(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Objective:
        mixed = self.mix(networks, batches, step)
        key = key_of(self._seed, "strong_augmentation", step)
        image = strong_augmentation(mixed.image, key, self._spec.augmentation)
        logits = networks.student(image)
        confident = (mixed.confidence >= self._spec.confidence_threshold).to(logits.dtype)
        confident_fraction = batch_mean(confident)
        gate = self._gate(confident, confident_fraction)
        loss = self._weight_at(step) * pixel_mean(self._loss_map(logits, mixed), gate)
        scalars = {
            "unlabeled_loss": whole_batch_mean(loss),
            "confident_fraction": confident_fraction,
            "mask_area": batch_mean(mixed.mix_mask),
        }
        return Objective("student", loss, scalars)

    @torch.no_grad()
    def mix(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> MixedBatch:
        """Label the raw images with the teacher, draw the masks and mix images and what the teacher says alike."""
        batch = batches["unlabeled"]
        probs = teacher_probs(networks, batch.image)
        confidence, class_map = highest(probs)
        batch_key = key_of(self._seed, "mix_mask", step)
        mix_mask = self._mask(class_map, sample_keys(batch_key, batch.index), batch_key).to(probs.dtype)
        image_b = self._partner(batches)
        image = blend(mix_mask, batch.image, image_b)
        of_partner = teacher_probs(networks, image_b) if self._has_partners else None
        if self._spec.loss != "cross_entropy" or not self._spec.mask.keeps_whole_pixels:
            mixed = blend(mix_mask, probs, next_of_global_batch(probs) if of_partner is None else of_partner)
            return MixedBatch(image, *highest(mixed), mix_mask, mixed)
        if of_partner is None:
            confidence_b, class_map_b = next_of_global_batch(confidence), next_of_global_batch(class_map)
        else:
            confidence_b, class_map_b = highest(of_partner)
        keeps_a = mix_mask.squeeze(1) == 1
        label = torch.where(keeps_a, class_map, class_map_b)
        return MixedBatch(image, torch.where(keeps_a, confidence, confidence_b), label, mix_mask)

    def _partner(self, batches: Mapping[str, Batch]) -> Tensor:
        """Image b of each pair: that of the second stream, or the next of the global batch."""
        if self._has_partners:
            return batches["partner"].image
        return next_of_global_batch(batches["unlabeled"].image)

    def pictures(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Sequence[tuple[str, Tensor]]:
        """The first pair of the batch, its mask and its mix; none before mixing begins."""
        if step < self._spec.supervised_start:
            return ()
        batch = batches["unlabeled"]
        mixed = self.mix(networks, batches, step)
        partner = self._partner(batches)
        area = float(mixed.mix_mask[0].mean())
        return (
            ("image a", batch.image[0]),
            ("image b", partner[0]),
            (f"mask (white keeps a, {area:.0%})", mixed.mix_mask[0].expand(3, -1, -1)),
            ("a onto b", mixed.image[0]),
        )

    def _weight_at(self, step: int) -> float:
        """lambda of equation 1, with its ramp counted from the end of the supervised start."""
        ramp = ramp_up(step - self._spec.supervised_start, self._spec.ramp_up_steps)
        return self._spec.unlabeled_weight * ramp

    def _loss_map(self, logits: Tensor, mixed: MixedBatch) -> Tensor:
        if self._spec.loss == "cross_entropy":
            return cross_entropy_map(logits, mixed.pseudo_label)[0]
        assert mixed.probs is not None
        if self._spec.loss == "squared":
            return squared_difference_map(torch.softmax(logits, dim=1), mixed.probs)
        return soft_cross_entropy_map(logits, mixed.probs)

    def _gate(self, confident: Tensor, confident_fraction: Tensor) -> Tensor:
        """The weight of each pixel: the batch-wide confident share (ClassMix, French), its own confidence, or one."""
        match self._spec.gate:
            case "batch_share":
                return confident_fraction
            case "pixel":
                return confident
            case "none":
                return torch.ones_like(confident_fraction)


def blend(mix_mask: Tensor, value_a: Tensor, value_b: Tensor) -> Tensor:
    """M a + (1 - M) b: mix_mask [n, 1, H, W] in [0, 1], values [n, K, H, W]; exactly a where it is 1 and b where 0."""
    return torch.lerp(value_b, value_a, mix_mask)


def teacher_probs(networks: Networks, image: Tensor) -> Tensor:
    """The teacher's probabilities [n, C, H, W] for raw images."""
    assert networks.teacher is not None
    return torch.softmax(networks.teacher(image), dim=1)
