"""Draws that are computed, not carried: an integer hash of (seed, purpose, step, global sample index).

No generator has a state, so a resumed trial needs none, and workers, ranks and shards change no draw. The hash is the
finalizer of splitmix64 (Steele, Lea and Flood 2014) in 64-bit integer operations, hence the same bits on CPU and GPU.
The host functions repeat the tensor functions in Python integers, for draws that the whole global batch shares.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_PIECE = 2**16


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def fold_int(key: int, data: int) -> int:
    """Hash `data` into `key`: two 64-bit integers to one, signed."""
    return _signed(_mix_int((key & _MASK) ^ _mix_int((data + _GOLDEN) & _MASK)))


def _mix_int(value: int) -> int:
    value ^= value >> _SHIFTS[0]
    value = (value * _MULTIPLIERS[0]) & _MASK
    value ^= value >> _SHIFTS[1]
    value = (value * _MULTIPLIERS[1]) & _MASK
    return value ^ (value >> _SHIFTS[2])


def fold(keys: Tensor, data: Tensor) -> Tensor:
    """Hash `data` into `keys`: int64 tensors of broadcastable shapes to int64; equals `fold_int` element by element."""
    return fold_prepared(keys, prepared(data))


def prepared(data: Tensor) -> Tensor:
    """The half of `fold` that needs no key, for data that come again with other keys."""
    return _spread(_finish_(_spread(data + _signed(_GOLDEN)).contiguous()))


def fold_prepared(keys: Tensor, prepared_data: Tensor) -> Tensor:
    """`fold(keys, data)` from `prepared(data)`; the first step of mixing a ^ b is that of a ^ that of b."""
    return _finish_((_spread(keys) ^ prepared_data).contiguous())


def _spread(value: Tensor) -> Tensor:
    """The first step of mixing."""
    return value ^ _shifted(value, _SHIFTS[0])


def _finish_(value: Tensor) -> Tensor:
    """The other steps, in place: a new tensor for each would take longer than they do. Wants a contiguous tensor."""
    if value.device.type == "cpu":
        _finish_array_(value.view(-1).numpy().view(np.uint64))
        return value
    for multiplier, bits in zip(_MULTIPLIERS, _SHIFTS[1:], strict=True):
        value.mul_(_signed(multiplier))
        value.bitwise_xor_(_shifted(value, bits))
    return value


def _finish_array_(value: NDArray[np.uint64]) -> None:
    """The same on the CPU, where NumPy shifts unsigned numbers, in pieces that stay in the processor's cache."""
    room = np.empty(min(_PIECE, len(value)), np.uint64)
    for first in range(0, len(value), _PIECE):
        piece = value[first : first + _PIECE]
        for multiplier, bits in zip(_MULTIPLIERS, _SHIFTS[1:], strict=True):
            piece *= np.uint64(multiplier)
            piece ^= np.right_shift(piece, bits, out=room[: len(piece)])


def _shifted(value: Tensor, bits: int) -> Tensor:
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)  # an arithmetic shift; the mask makes it logical


def key_of(seed: int, purpose: str, *data: int) -> int:
    """The key of one purpose, such as "mask", at whole numbers such as a step: what all samples share."""
    key = fold_int(seed, int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big"))
    for item in data:
        key = fold_int(key, item)
    return key


def sample_keys(key: int, index: Tensor) -> Tensor:
    """Keys [N] int64 of the global sample indices [N] int64."""
    return fold(torch.full_like(index, key), index)


def uniform_int(key: int) -> float:
    """A number in [0, 1) from a host key."""
    return ((key & _MASK) >> 11) / (1 << 53)


def uniform(keys: Tensor) -> Tensor:
    """Numbers in [0, 1), float64, in the shape of the int64 `keys`; equals `uniform_int` element by element."""
    return _shifted(keys, 11).to(torch.float64) / (1 << 53)


def normal(keys: Tensor) -> Tensor:
    """Standard normal numbers, float32, in the shape of the int64 `keys` (inverse of the distribution function)."""
    centred = (_shifted(keys, 41).to(torch.float32) + 0.5) / (1 << 23)
    return torch.erfinv(2 * centred - 1) * 2**0.5


def permutation(key: int, length: int) -> Tensor:
    """A permutation of 0..length-1, int64 on the CPU."""
    index = torch.arange(length)
    return torch.argsort(sample_keys(key, index), stable=True)
