"""Draws: the published generator's bits, host and tensor alike, and even shares."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests import oracles
from trainer.randomness import fold, fold_int, key_of, normal, permutation, sample_keys, uniform, uniform_int

# The first outputs of splitmix64 seeded with 1234567, as published with the generator's tasks.
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
# Computed with the oracles, so that a slip of our own cannot pin itself.
FOLD_OF_ZERO = 5197578548964807871
FIRST_MASK_KEY = -2950421293543691315
SAMPLE_KEYS = [2166253057304709559, 4930707668811098386, -5645742781189968271]
ORDER = [3, 4, 0, 5, 7, 2, 6, 1]
WORDS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
KEYS = sample_keys(key_of(0, "test"), torch.arange(2**14))


def test_the_oracle_gives_the_published_outputs_of_splitmix64() -> None:
    assert oracles.splitmix64_stream(1234567, 5) == PUBLISHED


def test_the_hash_is_the_finalizer_of_splitmix64() -> None:
    inner = oracles.splitmix64_stream(0, 1)[0]  # hashing 0 into inner ^ s gives the finalizer of s
    states = [(1234567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in range(1, 6)]
    assert [fold_int(inner ^ state, 0) % 2**64 for state in states] == PUBLISHED


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=20))
def test_host_and_tensor_hash_give_the_same_bits_as_the_oracle(pairs: list[tuple[int, int]]) -> None:
    expected = [oracles.fold(key, data) for key, data in pairs]
    assert [fold_int(key, data) for key, data in pairs] == expected
    keys, data = torch.tensor(pairs).unbind(1)
    assert fold(keys, data).tolist() == expected


@settings(deadline=None, max_examples=50)
@given(st.lists(WORDS, min_size=1, max_size=20))
def test_host_and_tensor_uniform_numbers_are_equal_and_below_one(keys: list[int]) -> None:
    expected = [oracles.uniform(key) for key in keys]
    assert [uniform_int(key) for key in keys] == expected
    assert uniform(torch.tensor(keys)).tolist() == expected
    assert all(0 <= number < 1 for number in expected)


def test_the_bits_of_a_few_draws_are_pinned() -> None:
    assert fold_int(0, 0) == FOLD_OF_ZERO
    assert key_of(0, "mix_mask", 0) == FIRST_MASK_KEY
    assert sample_keys(key_of(7, "mix_mask", 3), torch.tensor([0, 1, 2])).tolist() == SAMPLE_KEYS
    assert permutation(key_of(1, "order of labeled", 0), 8).tolist() == ORDER


def test_a_uniform_key_reaches_both_ends() -> None:
    assert uniform_int(0) == 0.0
    assert uniform_int(-1) == 1 - 2**-53
    assert uniform(torch.tensor([0, -1])).dtype == torch.float64


def test_uniform_numbers_fill_every_sixteenth_evenly() -> None:
    counts = torch.bincount((uniform(KEYS) * 16).long(), minlength=16).numpy()
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("bit", [0, 1, 31, 32, 62, 63])
def test_every_bit_of_a_key_is_set_half_of_the_time(bit: int) -> None:
    assert ((KEYS >> bit) & 1).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_neighbouring_samples_are_not_correlated() -> None:
    numbers = uniform(KEYS)
    assert abs(torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1].item()) < 0.03


def test_normal_numbers_are_finite_float32_and_standard_normal() -> None:
    numbers = normal(KEYS)
    assert numbers.dtype == torch.float32
    assert stats.kstest(numbers.numpy(), "norm").pvalue > 0.001
    assert torch.isfinite(normal(torch.tensor([0, -1]))).all()


def test_normal_numbers_equal_the_inverse_distribution_function() -> None:
    expected = torch.tensor([oracles.normal(key) for key in KEYS[:200].tolist()])
    torch.testing.assert_close(normal(KEYS[:200]), expected, rtol=1e-5, atol=1e-6)


def test_seed_purpose_step_and_sample_each_change_the_key() -> None:
    keys = {
        key
        for seed, purpose, step in product(range(5), ("mix_mask", "strong_augmentation"), range(10))
        for key in sample_keys(key_of(seed, purpose, step), torch.arange(10)).tolist()
    }
    assert len(keys) == 5 * 2 * 10 * 10


def test_the_order_of_the_numbers_in_a_key_matters() -> None:
    assert key_of(0, "test", 1, 2) != key_of(0, "test", 2, 1)
    assert key_of(1, "test", 0) != key_of(0, "test", 1)


@pytest.mark.parametrize("length", [1, 2, 7, 2975])
def test_a_permutation_holds_every_place_once(length: int) -> None:
    order = permutation(key_of(3, "order"), length)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(length))


def test_every_order_of_three_is_drawn_equally_often() -> None:
    orders = [tuple(permutation(key_of(seed, "order"), 3).tolist()) for seed in range(1200)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.001
