"""Losses as sums and counts over the global batch: add up, reduce over ranks, divide once.

Cross-entropy is written as log-softmax and gather, which has a deterministic backward on every device.
"""

import torch
from torch import Tensor

from trainer.distributed import global_sum, world_size

IGNORE_INDEX = 255


def cross_entropy_map(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of every pixel.

    Args:
        logits: [N, C, H, W] floating.
        label: [N, H, W] int64, class index or IGNORE_INDEX.
    Returns: loss [N, H, W], zero where ignored, and valid_mask [N, H, W] bool.
    """
    valid_mask = label != IGNORE_INDEX
    target = torch.where(valid_mask, label, 0)
    log_probs = torch.log_softmax(logits, dim=1)
    loss = -log_probs.gather(1, target.unsqueeze(1)).squeeze(1)
    return torch.where(valid_mask, loss, 0.0), valid_mask


def global_mean(total: Tensor, count: Tensor) -> Tensor:
    """A local sum over the global count, scaled so that DDP's average over ranks is the global mean.

    Args:
        total: scalar with gradient, this rank's sum.
        count: scalar, this rank's count.
    Returns: scalar; zero where nothing counts (a labelled batch without a valid pixel).
    """
    return total * world_size() / global_sum(count).clamp(min=1)


def supervised_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy over the valid pixels of the global batch.

    Source: ComplexMix section 3.2, equation 2. Differs: the mean is over valid pixels, as ClassMix's code has it; the
    equation divides by the number of images alone.
    """
    loss, valid_mask = cross_entropy_map(logits, label)
    return global_mean(loss.sum(), valid_mask.sum())


def pixel_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """Mean of weight x loss over all pixels of the global batch; both [N, H, W], weight broadcastable."""
    count = loss.new_full((), loss.numel())  # filled on the device: a copy from the host would wait for it
    return global_mean((weight * loss).sum(), count)


def squared_difference_map(probs: Tensor, target_probs: Tensor) -> Tensor:
    """Squared difference of two distributions, summed over classes: [N, C, H, W] twice to [N, H, W].

    Source: French et al., cutmix-semisup-seg (consistency loss "var"), as told in docs/methods.md.
    """
    return (probs - target_probs).square().sum(dim=1)


def soft_cross_entropy_map(logits: Tensor, probs: Tensor) -> Tensor:
    """Cross-entropy of every pixel against probabilities: [N, C, H, W] twice to [N, H, W].

    Source: ComplexMix equation 3 with its one-hot labels left soft (docs/methods.md 9.7, row 15).
    """
    return -(probs * torch.log_softmax(logits, dim=1)).sum(dim=1)


def binary_cross_entropy_map(logits: Tensor, target: float) -> Tensor:
    """-log sigmoid(logits) for target 1, -log(1 - sigmoid(logits)) for target 0, in the shape of `logits`."""
    return torch.nn.functional.softplus(-logits) * target + torch.nn.functional.softplus(logits) * (1 - target)


def batch_mean(value: Tensor) -> Tensor:
    """Mean over the global batch of a detached tensor: sums and counts over ranks, one division."""
    count = value.new_full((), value.numel())
    return global_sum(value.sum()) / global_sum(count)


def whole_batch_mean(scalar: Tensor) -> Tensor:
    """The global batch's value of a scalar that is scaled like `global_mean`, detached, for logs."""
    return global_sum(scalar) / world_size()
