"""Batch normalisation over the global batch, so that the number of ranks changes no result. Knows no network."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainer.distributed import gather, global_sum, world_size

BatchNormPolicy = Literal["batch_statistics", "frozen", "trained"]
ALL_BUT_CHANNELS = (0, 2, 3)
_AT_REST: ContextVar[bool] = ContextVar("statistics at rest", default=False)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics in train mode are those of the global batch, forward and backward.

    The state dict is that of nn.BatchNorm2d: weight, bias, running_mean, running_var (unbiased over the global batch),
    num_batches_tracked. One process takes torch's own kernel. Inputs are [N, C, H, W] in float32, float64 or, under
    autocast, bfloat16 (statistics in float32 then); the local N may differ between ranks but not be 0.

    Weight and bias gradients are those of the local loss, as DDP expects, which averages them over ranks. Every rank
    must run the same forwards and backwards: both communicate.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1. The ranks' (count, mean, sum of squared deviations)
    are combined by Chan, Golub and LeVeque 1979: sums of squares would lose digits where the mean is large.
    """

    uses_batch_statistics: bool = True
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, H, W]; shape and dtype stay. Raises: ValueError unless the input has four dimensions."""
        self._check_input_dim(input)
        if not (self.training and self.uses_batch_statistics):
            running = (self.running_mean, self.running_var)
            return F.batch_norm(input, *running, self.weight, self.bias, eps=self.eps)
        moves = not _AT_REST.get()
        if moves:
            self.num_batches_tracked.add_(1)
        if world_size() > 1:
            return self._normalize_over_ranks(input, moves)
        running = (self.running_mean, self.running_var)
        if not moves:  # copies move in their place: what autograd saves must be as many tensors as before
            running = (self.running_mean.clone(), self.running_var.clone())
        return F.batch_norm(input, *running, self.weight, self.bias, True, self.momentum, self.eps)

    def _normalize_over_ranks(self, value: Tensor, moves: bool) -> Tensor:
        count, mean, squared_deviation = global_moments(value)
        if moves:
            with torch.no_grad():
                unbiased = squared_deviation / (count - 1).clamp(min=1)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        moments = (count, mean, squared_deviation / count)
        return _Normalize.apply(value, self.weight, self.bias, *moments, self.eps)  # type: ignore[no-any-return]


@contextmanager
def statistics_at_rest() -> Iterator[None]:
    """Batch statistics normalise as ever, but no running average moves: for a forward that was counted before."""
    token = _AT_REST.set(True)
    try:
        yield
    finally:
        _AT_REST.reset(token)


def global_moments(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and summed squared deviation of each channel over the batches of all ranks, without gradient.

    Args:
        value: [N, C, H, W], this rank's part, N > 0.
    Returns: [1], [C] and [C] in float32 (float64 for float64), the same bits on every rank.
    """
    local = value.detach().to(_statistics_dtype(value))
    variance, mean = torch.var_mean(local, dim=ALL_BUT_CHANNELS, correction=0)
    count = mean.new_full((1,), local.numel() // local.shape[1])
    parts = torch.stack(gather(torch.cat([count, mean, variance * count])))
    counts, means, squares = torch.split(parts, [1, len(mean), len(mean)], dim=1)
    total = counts.sum(0)
    global_mean = (counts * means).sum(0) / total
    return total, global_mean, (squares + counts * (means - global_mean) ** 2).sum(0)


class _Normalize(torch.autograd.Function):
    """Normalise by moments of the global batch; the backward knows that every rank's input moved those moments."""

    @staticmethod
    def forward(context: Any, *arguments: Any) -> Tensor:
        value, weight, bias, count, mean, variance, eps = arguments
        context.save_for_backward(value, weight, count, mean, torch.rsqrt(variance + eps))
        return F.batch_norm(value, mean, variance, weight.to(mean.dtype), bias.to(mean.dtype), eps=eps)

    @staticmethod
    @once_differentiable
    def backward(context: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, weight, count, mean, inverse_std = context.saved_tensors
        gradient = output_gradient.to(mean.dtype)
        normalized = (value.to(mean.dtype) - _along_channels(mean)) * _along_channels(inverse_std)
        local = torch.stack([gradient.sum(ALL_BUT_CHANNELS), (gradient * normalized).sum(ALL_BUT_CHANNELS)])
        mean_gradient, mean_product = global_sum(local) / count
        centered = gradient - _along_channels(mean_gradient) - normalized * _along_channels(mean_product)
        value_gradient = centered * _along_channels(inverse_std * weight)
        return value_gradient.to(value.dtype), local[1], local[0], None, None, None, None


def _along_channels(value: Tensor) -> Tensor:
    return value[None, :, None, None]


def _statistics_dtype(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


def set_batch_norm_policy(network: nn.Module, policy: BatchNormPolicy) -> None:
    """Say what every GlobalBatchNorm2d of a network learns from and what it learns.

    Args:
        policy: "batch_statistics": weight and bias stay at their values, train mode normalises by the batch and moves
            the running averages; "frozen": weight, bias and running averages stay and are used in train mode too;
            "trained": as nn.BatchNorm2d.
    Raises: ValueError for another word.
    Source: the AdvSemiSeg lineage runs "batch_statistics" by switching off the affine gradients alone (AdvSemiSeg's
        model file, kept by ClassMix); French et al. run "frozen".
    """
    if policy not in get_args(BatchNormPolicy):
        allowed = ", ".join(get_args(BatchNormPolicy))
        raise ValueError(f"batch_norm {policy!r} is not one of {allowed} (--set network.batch_norm=…)")
    for module in network.modules():
        if isinstance(module, GlobalBatchNorm2d):
            module.uses_batch_statistics = policy != "frozen"
            module.weight.requires_grad_(policy == "trained")
            module.bias.requires_grad_(policy == "trained")
