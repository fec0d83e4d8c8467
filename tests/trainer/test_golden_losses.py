"""Every named method's losses over five float64 steps on the CPU, pinned: a change that should alter no number alters
none. A change that should renews them and says why:

    MIXGRID_RENEW_GOLDEN=1 .venv/bin/python -m pytest tests/trainer/test_golden_losses.py

The initial weights come from the project's own hash, since torch's normal draws differ between processors in the last
bits; what a network of a seed starts with is pinned nowhere but in the equalities of one machine.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from tests.contracts import losses_of, small_spec, small_trial, train_small
from trainer.randomness import key_of, sample_keys, uniform
from trainer.spec import NAMED_METHODS
from trainer.trial import Trial

GOLDEN = Path(__file__).parents[1] / "golden" / "losses"
RENEW = os.environ.get("MIXGRID_RENEW_GOLDEN") == "1"
NUM_STEPS = 5


@torch.no_grad()
def fill_by_hash(trial: Trial) -> None:
    """Draw every weight of the players uniformly within +- sqrt(3 / fan-in): the same bits on every machine."""
    weights = [weight for player in trial.players.values() for weight in player.network.parameters()]
    biases = [
        weight
        for name, player in trial.players.items()
        if name != "student"
        for weight in player.network.parameters()
        if weight.dim() == 1
    ]
    for bias in biases:
        bias.zero_()
    for place, weight in enumerate(weights):
        if weight.dim() > 1:
            keys = sample_keys(key_of(0, "golden weights", place), torch.arange(weight.numel()))
            weight.copy_((2 * uniform(keys) - 1).view_as(weight) * (3 / weight[0].numel()) ** 0.5)
    if trial.teacher is not None:
        trial.teacher.copy_student(trial.players["student"].network)


@pytest.mark.parametrize("name", NAMED_METHODS)
def test_the_losses_are_the_pinned_ones(name: str, small_data: Path) -> None:
    trial = small_trial(small_spec(name, num_steps=NUM_STEPS), small_data)
    fill_by_hash(trial)
    losses = losses_of(train_small(trial))
    path = GOLDEN / f"{name}.json"
    if RENEW:
        path.write_text(json.dumps(losses, indent=1) + "\n")
    pinned = json.loads(path.read_text())
    assert len(losses) == len(pinned) == NUM_STEPS
    for step, (mine, golden) in enumerate(zip(losses, pinned, strict=True)):
        assert mine == pytest.approx(golden, rel=1e-9, abs=0), f"step {step}"


def test_every_pinned_file_belongs_to_a_named_method() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(NAMED_METHODS)
