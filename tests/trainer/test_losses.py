"""Losses against loops and against torch, and their shares over ranks."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests import oracles
from trainer import losses
from trainer.losses import (
    IGNORE_INDEX,
    cross_entropy_map,
    global_mean,
    pixel_mean,
    squared_difference_map,
    supervised_loss,
    whole_batch_mean,
)


def draw(samples: int = 2, classes: int = 5, ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    """Logits [N, C, 6, 7] float64 and labels of which a share is ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(samples, classes, 6, 7, generator=generator, dtype=torch.float64)
    label = torch.randint(classes, (samples, 6, 7), generator=generator)
    label[torch.rand(label.shape, generator=generator) < ignored] = IGNORE_INDEX
    return logits, label


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.9])
def test_the_supervised_loss_equals_the_mean_by_loops(ignored: float) -> None:
    logits, label = draw(ignored=ignored)
    expected = oracles.mean_cross_entropy(logits.tolist(), label.tolist())
    assert supervised_loss(logits, label).item() == pytest.approx(expected, rel=1e-12)


def test_the_supervised_loss_and_its_gradient_equal_torchs() -> None:
    logits, label = draw()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    supervised_loss(ours, label).backward()
    functional.cross_entropy(theirs, label, ignore_index=IGNORE_INDEX).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-15)


def test_ignored_pixels_are_not_counted() -> None:
    logits, label = draw(samples=1, ignored=0.0)
    whole = supervised_loss(logits, label)
    twice = torch.cat([label, torch.full_like(label, IGNORE_INDEX)])
    torch.testing.assert_close(supervised_loss(logits.repeat(2, 1, 1, 1), twice), whole)


def test_ignored_pixels_get_no_gradient() -> None:
    logits, label = draw()
    logits.requires_grad_()
    supervised_loss(logits, label).backward()
    is_ignored = (label == IGNORE_INDEX).unsqueeze(1).expand_as(logits)
    assert logits.grad is not None
    assert (logits.grad[is_ignored] == 0).all()
    assert (logits.grad[~is_ignored] != 0).all()


def test_a_batch_without_a_valid_pixel_gives_zero_and_not_nan() -> None:
    logits, label = draw(ignored=1.1)
    logits.requires_grad_()
    loss = supervised_loss(logits, label)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_map_is_zero_where_ignored_and_says_what_is_valid() -> None:
    logits, label = draw()
    loss, valid_mask = cross_entropy_map(logits, label)
    assert loss.shape == valid_mask.shape == label.shape
    assert torch.equal(valid_mask, label != IGNORE_INDEX)
    assert (loss[~valid_mask] == 0).all()
    expected = functional.cross_entropy(logits, label, ignore_index=IGNORE_INDEX, reduction="none")
    torch.testing.assert_close(loss, expected)


def test_a_label_map_keeps_its_values() -> None:
    logits, label = draw()
    before = label.clone()
    supervised_loss(logits, label)
    assert torch.equal(label, before)


def test_uneven_ignored_pixels_weigh_the_same_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, label = draw(samples=2)
    label[1, :5] = IGNORE_INDEX
    expected = supervised_loss(logits, label)
    valid = (label != IGNORE_INDEX).sum()
    monkeypatch.setattr(losses, "world_size", lambda: 2)
    monkeypatch.setattr(losses, "global_sum", lambda _count: valid)
    parts = [supervised_loss(logits[rank : rank + 1], label[rank : rank + 1]) for rank in range(2)]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, expected)


def test_the_logged_mean_takes_the_world_size_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert whole_batch_mean(torch.tensor(3.0)).item() == 3.0
    monkeypatch.setattr(losses, "world_size", lambda: 2)
    monkeypatch.setattr(losses, "global_sum", lambda scalar: scalar + 5.0)
    assert whole_batch_mean(torch.tensor(3.0)).item() == 4.0


def test_a_mean_over_nothing_is_zero() -> None:
    assert global_mean(torch.tensor(0.0), torch.tensor(0)).item() == 0.0
    assert global_mean(torch.tensor(6.0), torch.tensor(4)).item() == 1.5


def test_the_pixel_mean_divides_by_all_pixels_whatever_their_weight() -> None:
    loss = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert pixel_mean(loss, torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).item() == 1.25
    assert pixel_mean(loss, torch.tensor(0.5)).item() == 1.25


def test_the_squared_difference_is_summed_over_classes() -> None:
    probs = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1, 1)
    target = torch.tensor([0.1, 0.2, 0.7]).view(1, 3, 1, 1)
    torch.testing.assert_close(squared_difference_map(probs, target), torch.tensor([[[0.72]]]))
