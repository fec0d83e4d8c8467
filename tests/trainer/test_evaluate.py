"""Judging a network: one confusion matrix over the set, whatever the number of ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import oracles
from trainer import evaluate as room
from trainer.data.cache import CachedSplit
from trainer.evaluate import evaluate
from trainer.losses import IGNORE_INDEX
from trainer.metrics import class_iou

NUM_CLASSES = 3


class Brightest(nn.Module):
    """Predicts the brightest colour channel, in eval mode only; remembers its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batches.append(image)
        return image


def images_of(count: int, without_label: tuple[int, ...] = ()) -> CachedSplit:
    """Noisy images of 5x4 pixels with labels of which a fifth is ignored."""
    rng = np.random.default_rng(0)
    labels = rng.integers(NUM_CLASSES, size=(count, 5, 4)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.2] = IGNORE_INDEX
    return CachedSplit(
        path=Path("nowhere"),
        names=tuple(f"{i}" for i in range(count)),
        has_label=np.array([i not in without_label for i in range(count)]),
        digest="",
        class_names=("a", "b", "c"),
        height=5,
        width=4,
        _images=(rng.integers(256, size=(count, 5, 4, 3), dtype=np.uint8),),
        _labels=(labels,),
    )


def judge(images: CachedSplit, network: nn.Module | None = None) -> Tensor:
    """Evaluate on the CPU in float64."""
    return evaluate(network or Brightest(), images, device=torch.device("cpu"), dtype=torch.float64)


def test_the_confusion_gives_the_ious_of_looking_at_every_pixel() -> None:
    images = images_of(7)
    prediction = images.images(range(7)).argmax(axis=3).tolist()
    expected = oracles.ious_by_counting(prediction, images.labels(range(7)).tolist(), NUM_CLASSES)
    assert class_iou(judge(images)) == expected


def test_every_valid_pixel_is_counted_once() -> None:
    images = images_of(7)
    assert judge(images).sum().item() == (images.labels(range(7)) != IGNORE_INDEX).sum()


def test_images_without_a_label_are_not_judged() -> None:
    images = images_of(5, without_label=(1, 4))
    network = Brightest()
    counted = judge(images, network).sum().item()
    assert counted == (images.labels((0, 2, 3)) != IGNORE_INDEX).sum()
    assert sum(len(batch) for batch in network.batches) == 3


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_the_parts_of_all_ranks_add_up_without_padded_duplicates(
    world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(7)
    whole, total = judge(images), torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.int64)
    monkeypatch.setattr(room, "world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr(room, "rank", lambda rank=rank: rank)
        total += judge(images)
    assert torch.equal(total, whole)


def test_the_confusion_is_summed_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(3)
    alone = judge(images)
    monkeypatch.setattr(room, "global_sum", lambda confusion: 2 * confusion)
    assert torch.equal(judge(images), 2 * alone)


def test_large_sets_are_judged_in_batches_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images, network = images_of(7), Brightest()
    whole = judge(images)
    monkeypatch.setattr(room, "_PIXELS_AT_ONCE", 3 * 5 * 4)
    assert torch.equal(judge(images, network), whole)
    assert [len(batch) for batch in network.batches] == [3, 3, 1]
    monkeypatch.setattr(room, "_PIXELS_AT_ONCE", 1)
    assert torch.equal(judge(images), whole)


@pytest.mark.parametrize("was_training", [True, False])
def test_the_networks_mode_comes_back_as_it_was(was_training: bool) -> None:
    network = Brightest().train(was_training)
    judge(images_of(2), network)
    assert network.training is was_training


def test_running_statistics_do_not_move() -> None:
    network = nn.BatchNorm2d(3).double()
    before = network.running_mean.clone()
    judge(images_of(3), network)
    assert torch.equal(network.running_mean, before)


def test_the_network_sees_floating_images_between_zero_and_one() -> None:
    images, network = images_of(2), Brightest()
    judge(images, network)
    (batch,) = network.batches
    assert batch.dtype == torch.float64
    assert torch.equal(batch, torch.from_numpy(images.images(range(2))).permute(0, 3, 1, 2).double() / 255)


def test_a_set_without_any_label_gives_no_count() -> None:
    assert judge(images_of(2, without_label=(0, 1))).sum() == 0
