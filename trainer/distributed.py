"""Ranks of one trial: sums over the global batch and partners across ranks. Everything also works without a group."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.errors import SetupError
from trainer.network import speak_towards

T = TypeVar("T")
_IS_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized() and not _IS_ALONE.get()


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if _has_group() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if _has_group() else 0


@contextmanager
def alone() -> Iterator[None]:
    """As if there were no group: what one rank does here it does without a word to the others, on whole batches."""
    token = _IS_ALONE.set(True)
    try:
        yield
    finally:
        _IS_ALONE.reset(token)


def global_sum(value: Tensor) -> Tensor:
    """Sum a detached tensor over all ranks; returns a new tensor of the same shape and dtype."""
    if world_size() == 1:
        return value.detach().clone()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


class _GradientSum(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        return global_sum(value)

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        return global_sum(gradients[0].contiguous())


def global_sum_with_gradient(value: Tensor) -> Tensor:
    """Sum over all ranks; the gradient is summed over all ranks too."""
    return value if world_size() == 1 else _GradientSum.apply(value)


def gather(value: Tensor) -> list[Tensor]:
    """The detached tensors of all ranks, in order of rank; shapes must be equal."""
    if world_size() == 1:
        return [value.detach()]
    parts = [torch.empty_like(value) for _ in range(world_size())]
    dist.all_gather(parts, value.detach().contiguous())
    return parts


def next_of_global_batch(value: Tensor) -> Tensor:
    """Give each sample the next one of the global batch, cyclic: what stands at i + 1 moves to i.

    Args:
        value: [n, ...], this rank's contiguous part of the global batch.
    Returns: [n, ...]; the last sample of a rank gets the first of the next rank.
    """
    first = gather(value[:1])[(rank() + 1) % world_size()]
    return torch.cat([value[1:], first])


def gather_objects(value: T) -> list[T]:
    """The values of all ranks, in order of rank; they travel pickled, within the group."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return cast(list[T], gathered)


def shard(num_samples: int) -> slice:
    """This rank's contiguous part of a global batch.

    Raises: SetupError unless the world size divides the batch.
    """
    if num_samples % world_size():
        raise SetupError(
            f"a global batch of {num_samples} cannot be shared by {world_size()} ranks: "
            "use a number of workers that divides every batch of the spec"
        )
    part = num_samples // world_size()
    return slice(rank() * part, (rank() + 1) * part)


def agree(flag: bool, device: torch.device) -> bool:
    """Rank 0's answer, for every rank."""
    if world_size() == 1:
        return flag
    word = torch.tensor([int(flag)], device=device)
    dist.broadcast(word, 0)
    return bool(word.item())


def agreed(find: Callable[[], T]) -> T:
    """What rank 0 finds, on every rank. An error of rank 0 is raised on all: nobody waits for a rank that gave up."""
    if world_size() == 1:
        return find()
    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box[0] = find()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    return cast(T, box[0])


def on_all_ranks(find: Callable[[], T]) -> T:
    """What each rank finds for itself. Where one raises, all raise: nobody waits for a rank that gave up."""
    found: list[T] = []
    error: Exception | None = None
    try:
        found.append(find())
    except Exception as raised:
        error = raised
    errors = [other for other in gather_objects(error) if other is not None]
    if errors:
        raise error or errors[0]
    return found[0]


def launched_rank() -> int:
    """This process's rank by torchrun's environment, before there is a group; 0 for a process alone."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def torchrun_group(device: str) -> Iterator[None]:
    """A process group from torchrun's environment variables, where they are set; else this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_cuda = device != "cpu" and torch.cuda.is_available()
    if int(os.environ.get("LOCAL_WORLD_SIZE", "0")) not in (0, int(os.environ["WORLD_SIZE"])):  # on several hosts
        speak_towards(os.environ["MASTER_ADDR"])
    dist.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
