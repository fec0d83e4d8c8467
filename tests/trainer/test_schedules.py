"""Factors of the step."""

import pytest

from tests import oracles
from trainer.schedules import is_due, poly, ramp_up


@pytest.mark.parametrize("power", [0.5, 0.9, 1.0, 2.0])
def test_poly_repeats_the_formula_at_every_step(power: float) -> None:
    for step in range(100):
        assert poly(step, 100, power) == pytest.approx(oracles.poly_rate(step, 100, power), rel=1e-12)


def test_poly_values_are_known_at_a_quarter_and_a_half() -> None:
    assert poly(0, 40_000, 0.9) == 1.0
    assert poly(10_000, 40_000, 2.0) == 0.5625
    assert poly(20_000, 40_000, 0.9) == pytest.approx(0.5358867312681466)


def test_poly_falls_to_nothing_and_never_rises() -> None:
    factors = [poly(step, 50, 0.9) for step in range(51)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-2] > factors[-1] == 0.0


def test_a_ramp_rises_evenly_and_then_stays() -> None:
    assert [ramp_up(step, 4) for step in range(7)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_without_a_ramp_the_factor_is_one_from_the_start() -> None:
    assert [ramp_up(step, 0) for step in (0, 1, 100)] == [1.0, 1.0, 1.0]


def test_something_is_due_after_every_so_many_updates() -> None:
    assert [step for step in range(1, 13) if is_due(step, 5)] == [5, 10]
