"""Activation checkpointing: less memory for more time, the same numbers. Knows blocks, no network by name."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.models.batch_norm import statistics_at_rest


def recompute_activations(network: nn.Module) -> None:
    """Keep only the inputs of a network's blocks for the backward pass, which computes the rest again.

    Weights, state dict and every result stay what they are: batch norms do not move their running statistics a second
    time. Call it after the teacher was copied, which never goes backward.

    Source: Chen et al. 2016, arXiv:1604.06174, in torch's form without re-entrance.
    """
    for block in blocks_of(network):
        setattr(block, "forward", partial(_recomputed, block.forward))  # noqa: B010  (a method, to the type checker)


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """The parts between which activations are kept: the children of the outermost sequences, or what says so itself."""
    for child in network.children():
        if getattr(child, "is_block", False):
            yield child
        elif isinstance(child, nn.Sequential):
            yield from (grandchild for grandchild in child if any(True for _ in grandchild.parameters()))
        else:
            yield from blocks_of(child)


def _recomputed(forward: Callable[..., Any], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_contexts)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), statistics_at_rest()
