"""Mittal et al., the GAN branch: a discriminator of (class map, image) pairs, and self-training on its favourites."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trainer.distributed import gather, global_sum, global_sum_with_gradient
from trainer.losses import (
    batch_mean,
    binary_cross_entropy_map,
    cross_entropy_map,
    global_mean,
    whole_batch_mean,
)
from trainer.methods.adversarial import FAKE, REAL, one_hot, streams_with_truth
from trainer.methods.base import Batch, Method, Networks, Objective, Phase, Stream
from trainer.methods.supervised import supervised_objective
from trainer.metrics import most_likely
from trainer.randomness import key_of, sample_keys
from trainer.spec import S4GAN

# The passes of the discriminator in a step, each with its own dropout.
_SCORING, _MATCHING, _ON_FAKE, _ON_REAL = range(4)


class S4GANMethod(Method):
    """Cross-entropy, feature matching, and self-training on the images whose prediction passes for real.

    Source: Mittal, Tatarchenko and Brox 2019, arXiv:1908.05724, in the form of semisup-semseg's train_s4GAN.py
    (docs/methods.md, card 5). The classifier branch is left out, as in the published Cityscapes runs. Differs: images
    are brought to [0, 1] from RGB in [0, 1], theirs from the network's normalised input.
    """

    players = ("student", "discriminator")

    def __init__(
        self, spec: S4GAN, *, num_classes: int, labeled_batch: int, unlabeled_batch: int, num_steps: int, seed: int
    ) -> None:
        self.discriminator = spec.discriminator
        self._spec = spec
        self._num_classes = num_classes
        self._batches = (labeled_batch, unlabeled_batch)
        self._num_steps = num_steps
        self._seed = seed

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Labelled and unlabelled images, and labelled ones that the discriminator sees with their truth."""
        return streams_with_truth(*self._batches)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase(0, self._num_steps, has_teacher=False),)

    def objectives(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Iterator[Objective]:
        """The student on labelled and on unlabelled images, then the discriminator on its pairs and on real ones."""
        unlabeled, truth = batches["unlabeled"], batches["truth"]
        fake_image = to_unit_range(unlabeled.image, unlabeled.image)
        of_range = batches["labeled"].image if self._spec.real_image_range == "labeled" else truth.image
        real = (one_hot(truth.label, self._num_classes, truth.image.dtype), to_unit_range(truth.image, of_range))
        yield supervised_objective(networks, batches["labeled"])
        probs, objective = self._on_unlabeled(networks, unlabeled, fake_image, truth, real, step)
        yield objective
        yield self._judged(networks, (probs, fake_image), unlabeled, step, FAKE)
        yield self._judged(networks, real, truth, step, REAL)

    def _on_unlabeled(
        self,
        networks: Networks,
        batch: Batch,
        fake_image: Tensor,
        truth: Batch,
        real: tuple[Tensor, Tensor],
        step: int,
    ) -> tuple[Tensor, Objective]:
        assert networks.critic is not None
        logits = networks.student(batch.image)
        probs = torch.softmax(logits, dim=1)
        score, fake_features = networks.critic(probs, fake_image, self._scoring_keys(batch, step, _SCORING))
        with torch.no_grad():
            _, real_features = networks.critic(*real, self._scoring_keys(truth, step, _MATCHING))
        matching = feature_matching_loss(real_features, fake_features)
        loss = self._spec.feature_matching_weight * matching
        chosen = torch.sigmoid(score.detach()) > self._spec.score_threshold
        scalars = {
            "feature_matching_loss": whole_batch_mean(matching),
            "confident_fraction": batch_mean(chosen.to(logits.dtype)),
        }
        if step >= self._spec.self_training_start:
            self_training = self_training_loss(logits, chosen)
            scalars["self_training_loss"] = whole_batch_mean(self_training)
            loss = loss + self._spec.self_training_weight * self_training
        scalars["unlabeled_loss"] = whole_batch_mean(loss)
        return probs.detach(), Objective("student", loss, scalars)

    def _judged(
        self, networks: Networks, pair: tuple[Tensor, Tensor], batch: Batch, step: int, target: float
    ) -> Objective:
        """Half of the discriminator's loss. Source: train_s4GAN.py, (loss_D_fake + loss_D_real) / 2."""
        assert networks.discriminator is not None
        score, _ = networks.discriminator(*pair, self._keys(batch, step, _ON_REAL if target == REAL else _ON_FAKE))
        each = binary_cross_entropy_map(score, target)
        loss = global_mean(each.sum(), torch.ones_like(each).sum())
        word = "real" if target == REAL else "fake"
        return Objective("discriminator", loss / 2, {f"discriminator_{word}_loss": whole_batch_mean(loss)})

    def _keys(self, batch: Batch, step: int, turn: int) -> Tensor:
        return sample_keys(key_of(self._seed, "discriminator dropout", step, turn), batch.index)

    def _scoring_keys(self, batch: Batch, step: int, turn: int) -> Tensor | None:
        return self._keys(batch, step, turn) if self._spec.dropout_when_scoring else None


def feature_matching_loss(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """Mean absolute difference of the global batches' mean features.

    Args:
        real_features: [n, F] without gradient; fake_features: [m, F] with gradient.
    Returns: scalar, equal on every rank, whose gradient DDP's average makes that of the global batch.
    Source: train_s4GAN.py, loss_fm.
    """
    real_mean = global_sum(real_features.sum(0)) / global_sum(real_features.new_tensor(float(len(real_features))))
    count = global_sum(fake_features.new_tensor(float(len(fake_features))))
    fake_mean = global_sum_with_gradient(fake_features.sum(0)) / count
    return (real_mean - fake_mean).abs().mean()


def self_training_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """Cross-entropy against the student's own arg-max on whole chosen images, mean over their pixels.

    Args:
        logits: [n, C, H, W].
        chosen: [n] bool.
    Returns: scalar; zero where no image of the global batch is chosen.
    Source: train_s4GAN.py, find_good_maps and loss_st.
    """
    loss, _ = cross_entropy_map(logits, most_likely(logits.detach()))
    weight = chosen[:, None, None].to(loss.dtype).expand_as(loss)
    return global_mean((weight * loss).sum(), weight.sum())


def to_unit_range(image: Tensor, of_range: Tensor) -> Tensor:
    """(image - its own minimum) / (maximum - minimum of `of_range`), extremes being those of the global batches.

    Source: train_s4GAN.py, which divides the images beside the ground truth by the range of the labelled batch.
    """
    span = _highest(of_range) - _lowest(of_range)
    return (image - _lowest(image)) / span.clamp(min=torch.finfo(image.dtype).eps)


def _lowest(image: Tensor) -> Tensor:
    return torch.stack(gather(image.min())).min()


def _highest(image: Tensor) -> Tensor:
    return torch.stack(gather(image.max())).max()
