"""Feng et al.: rounds of self-training with a dynamic loss and a class-balanced curriculum."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.data.pool_labels import PoolLabels, pack
from trainer.distributed import gather_objects, global_sum
from trainer.losses import IGNORE_INDEX, batch_mean, cross_entropy_map, global_mean
from trainer.methods.base import Action, Batch, Method, Network, Networks, Objective, Phase, PoolPart, Stream
from trainer.methods.supervised import supervised_objective
from trainer.metrics import highest
from trainer.spec import DSTCBC

KEEPS_ALL = 1e-4  # the threshold of every class at ratio 1 (card 6)
NEVER_PREDICTED = 1.0  # the threshold of a class that no sampled pixel was predicted as (methods.md, section 10)


class DSTCBCMethod(Method):
    """A supervised start, then rounds: label the pool, and train anew on labels and pseudo labels together.

    Source: Feng et al. 2020, arXiv:2004.08514, first version, in the form of DST-CBC's branch dst-cbc (docs/methods.md,
    card 6): labelled and pseudo-labelled images share one forward. Differs: rounds are counted in steps, not epochs,
    and every `sample_every`-th pixel within each image, theirs along the whole pass.
    """

    def __init__(self, spec: DSTCBC, *, labeled_batch: int, unlabeled_batch: int, num_steps: int) -> None:
        self._spec = spec
        self._batches = (labeled_batch, unlabeled_batch)
        self._num_steps = num_steps

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Labelled images, the pool with its labels of the round, and those of the start where its batch differs."""
        labeled, unlabeled = self._batches
        streams = (
            Stream("labeled", "labeled", labeled),
            Stream("unlabeled", "unlabeled", unlabeled, shows_pool_labels=True),
        )
        start = self._spec.start_batch
        return streams if start is None else (*streams, Stream("start", "labeled", start))

    @property
    def _start_stream(self) -> str:
        return "labeled" if self._spec.start_batch is None else "start"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The start, where there is one, and the rounds, each with its own labels, optimizer and schedule."""
        carries = self._spec.carry == "best"
        actions: tuple[Action, ...] = ("carry_best",) if carries else ()
        rounds = [
            Phase(
                first_step,
                num_steps,
                (*actions, "restart_optimizers", "label_pool"),
                has_teacher=False,
                restarts_schedule=True,
                keeps_best=carries,
                streams=("labeled", "unlabeled"),
            )
            for first_step, num_steps in rounds_of(self._spec, self._num_steps)
        ]
        start = Phase(
            0,
            self._spec.supervised_start,
            has_teacher=False,
            restarts_schedule=True,
            keeps_best=carries,
            streams=(self._start_stream,),
        )
        return (start, *rounds) if self._spec.supervised_start else tuple(rounds)

    def objectives(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Iterator[Objective]:
        """The supervised loss in the start, the dynamic loss in the rounds."""
        if step < self._spec.supervised_start:
            yield supervised_objective(networks, batches[self._start_stream])
        else:
            yield self._round(networks, batches["labeled"], batches["unlabeled"])

    def _round(self, networks: Networks, labeled: Batch, unlabeled: Batch) -> Objective:
        logits = networks.student(torch.cat([labeled.image, unlabeled.image]))
        label = torch.cat([labeled.label, unlabeled.label])
        loss_map, valid_mask = cross_entropy_map(logits, label)
        weight = dynamic_weight(loss_map, self._spec.gamma)
        weight[: len(labeled.image)] = 1.0
        weighted = weight * loss_map
        parts = (slice(None, len(labeled.image)), slice(len(labeled.image), None))
        supervised, own = (_global_mean_of(weighted[part].detach(), valid_mask[part]) for part in parts)
        scalars = {
            "supervised_loss": supervised,
            "unlabeled_loss": own,
            "confident_fraction": batch_mean(valid_mask[parts[1]].to(loss_map.dtype)),
        }
        return Objective("student", global_mean(weighted.sum(), valid_mask.sum()), scalars)

    def label_pool(self, student: Network, pool: PoolPart, step: int) -> PoolLabels:
        """Label the pool with class-balanced thresholds: two passes, one to find them and one to apply them."""
        firsts = [first_step for first_step, _ in rounds_of(self._spec, self._num_steps)]
        ratio = self._spec.label_ratios[firsts.index(step)]
        thresholds = self._thresholds(student, pool, ratio)
        size = (pool.height, pool.width)
        packed: dict[str, bytes] = {}
        names = iter(pool.names)
        for probs in self._predictions(student, pool):
            label = pseudo_label(probs, torch.tensor(thresholds, dtype=probs.dtype, device=probs.device))
            resized = F.interpolate(label[:, None].float(), size=size, mode="nearest-exact").squeeze(1)
            packed |= {next(names): pack(each) for each in resized.to(torch.uint8).cpu().numpy()}
        gathered = {name: content for part in gather_objects(packed) for name, content in part.items()}
        return PoolLabels(*size, gathered, {"label_ratio": ratio, "thresholds": thresholds})

    def _thresholds(self, student: Network, pool: PoolPart, ratio: float) -> list[float]:
        if ratio >= 1:
            num_classes = next(iter(self._predictions(student, pool))).shape[1] if pool.names else 0
            return [KEEPS_ALL] * max(gather_objects(num_classes))
        found: list[list[np.ndarray]] = []
        for probs in self._predictions(student, pool):
            confidence, prediction = (part.flatten(1)[:, :: self._spec.sample_every] for part in highest(probs))
            found.append([confidence[prediction == index].cpu().numpy() for index in range(probs.shape[1])])
        by_rank = gather_objects([np.concatenate(parts) for parts in zip(*found, strict=True)])
        samples = [np.concatenate(parts) for parts in zip(*(part for part in by_rank if part), strict=True)]
        return class_thresholds(samples, ratio)

    def _predictions(self, student: Network, pool: PoolPart) -> Iterator[Tensor]:
        """Probabilities [n, C, h, w] of the pool's images, at the size at which the pool is labelled."""
        for image in pool.batches():
            if self._spec.label_height is not None and self._spec.label_width is not None:
                size = (self._spec.label_height, self._spec.label_width)
                image = F.interpolate(image, size=size, mode="bilinear", antialias=True)
            yield torch.softmax(student(image), dim=1)


def rounds_of(spec: DSTCBC, num_steps: int) -> list[tuple[int, int]]:
    """First step and length of each round: equal shares of what the start leaves, the remainder with the last."""
    count = len(spec.label_ratios)
    share, remainder = divmod(num_steps - spec.supervised_start, count)
    lengths = [share] * (count - 1) + [share + remainder]
    return [(spec.supervised_start + place * share, length) for place, length in enumerate(lengths)]


def class_thresholds(samples: Sequence[np.ndarray], ratio: float) -> list[float]:
    """The confidence above which a share `ratio` of each class's pixels lies.

    Args:
        samples: for each class the confidences of the sampled pixels that were predicted as it, in any order.
        ratio: in (0, 1).
    Returns: of n rising confidences that at place n - 1 - floor(ratio n); 1 for a class without any.
    Source: DST-CBC (docs/methods.md, card 6). Differs: a class without a sample stops the published code.
    """
    return [_threshold(np.sort(confidences), ratio) for confidences in samples]


def _threshold(rising: np.ndarray, ratio: float) -> float:
    if len(rising) == 0:
        return NEVER_PREDICTED
    kept = int(round(ratio * len(rising), 6))  # 0.6 x 5 is 3, not 2.9999…
    return float(rising[max(len(rising) - 1 - kept, 0)])


def pseudo_label(probs: Tensor, thresholds: Tensor) -> Tensor:
    """The class that exceeds its threshold most, where one reaches it.

    Args:
        probs: [N, C, H, W]; thresholds: [C].
    Returns: [N, H, W] int64, IGNORE_INDEX where no class reaches its threshold.
    Source: DST-CBC: arg-max of probability / threshold, ignored below 1.
    """
    excess, label = highest(probs / thresholds.view(1, -1, 1, 1))
    return torch.where(excess < 1, IGNORE_INDEX, label)


def dynamic_weight(loss_map: Tensor, gamma: float) -> Tensor:
    """(current probability of the label) ** gamma, without gradient, from its cross-entropy [N, H, W].

    Source: DST-CBC's dynamic loss.
    """
    return torch.exp(-gamma * loss_map.detach())


def _global_mean_of(value: Tensor, valid_mask: Tensor) -> Tensor:
    return global_sum(value.sum()) / global_sum(valid_mask.sum()).clamp(min=1)
