"""Factors that depend on the step alone."""

from collections.abc import Callable

RateFactor = Callable[[int, int], float]
"""What learning rates are multiplied with for the update after `step` of `num_steps` updates."""


def poly(step: int, num_steps: int, power: float) -> float:
    """(1 - step / num_steps) ** power for the update after `step` updates.

    Source: DeepLab (Chen et al. 2016), section 4.1; every method of Table 1 uses power 0.9.
    """
    return float((1 - step / num_steps) ** power)


def constant(step: int, num_steps: int) -> float:
    """1 at every step (French et al.)."""
    return 1.0


def ramp_up(step: int, ramp_up_steps: int) -> float:
    """Linear from 0 to 1 over `ramp_up_steps`; 1 without a ramp."""
    return min(1.0, step / ramp_up_steps) if ramp_up_steps else 1.0


def is_due(step: int, every: int) -> bool:
    """Whether something done every `every` updates is due after `step` updates."""
    return step % every == 0
