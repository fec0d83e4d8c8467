"""Judging a network: one confusion matrix over the set, whatever the number of ranks."""

from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import oracles
from trainer import evaluate as room
from trainer.data.cache import CachedSplit
from trainer.evaluate import evaluate, mean_over_windows, predict_sliding, predict_whole, window_starts
from trainer.losses import IGNORE_INDEX
from trainer.metrics import class_iou, confusion_of

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
    monkeypatch.setattr(room, "PIXELS_AT_ONCE", 3 * 5 * 4)
    assert torch.equal(judge(images, network), whole)
    assert [len(batch) for batch in network.batches] == [3, 3, 1]
    monkeypatch.setattr(room, "PIXELS_AT_ONCE", 1)
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


# --- what a network sees of an image at once ----------------------------------------------------------------------


class Positional(nn.Module):
    """Logits that depend on the pixel and on where in its window it lies, so that windows disagree."""

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        rows = torch.linspace(0, 1, height, dtype=image.dtype).view(-1, 1)
        columns = torch.linspace(1, -1, width, dtype=image.dtype)
        return 3 * image + torch.stack([rows + columns, rows * columns, -rows.expand(height, width)])


def brute_force(network: nn.Module, image: Tensor, window: tuple[int, int], overlap: Fraction) -> Tensor:
    """The mean over windows, pixel by pixel and class by class."""
    height, width = image.shape[-2:]
    sides = min(window[0], height), min(window[1], width)

    @cache
    def probs(top: int, left: int) -> list:
        return network(image[..., top : top + sides[0], left : left + sides[1]]).softmax(dim=1).tolist()

    def plane(n: int, c: int) -> list[list[float]]:
        def prob(top: int, left: int, y: int, x: int) -> float:
            return probs(top, left)[n][c][y - top][x - left]

        return oracles.mean_over_windows(height, width, window, overlap, prob)

    planes = [[plane(n, c) for c in range(NUM_CLASSES)] for n in range(len(image))]
    return torch.tensor(planes, dtype=image.dtype)


@pytest.mark.parametrize(
    ("window", "overlap"),
    [
        ((4, 5), Fraction(1, 3)),
        ((3, 3), Fraction(1, 3)),
        ((6, 4), Fraction(0)),
        ((2, 7), Fraction(9, 10)),
        ((9, 13), Fraction(1, 2)),
        ((20, 5), Fraction(1, 4)),
        ((20, 30), Fraction(1, 3)),
    ],
)
def test_windows_are_averaged_pixel_by_pixel(window: tuple[int, int], overlap: Fraction) -> None:
    image, network = torch.rand(2, 3, 9, 13, dtype=torch.float64), Positional()
    expected = brute_force(network, image, window, overlap)
    probs = mean_over_windows(lambda part: network(part).softmax(dim=1), image, window, float(overlap))
    torch.testing.assert_close(probs, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(2, 9, 13, dtype=torch.float64))
    prediction = predict_sliding(network, image, window=window, overlap=float(overlap))
    assert torch.equal(prediction, expected.argmax(dim=1))


def test_two_windows_of_one_row_by_hand() -> None:
    shown = []

    def probs_of(part: Tensor) -> Tensor:
        shown.append(part.flatten().tolist())
        return torch.full((1, 1, 1, 3), float(len(shown)))

    image = torch.tensor([10.0, 20.0, 30.0, 40.0]).view(1, 1, 1, 4)
    probs = mean_over_windows(probs_of, image, (1, 3), 1 / 3)
    assert shown == [[10, 20, 30], [20, 30, 40]]
    assert probs.flatten().tolist() == [1, 1.5, 1.5, 2]


@pytest.mark.parametrize(
    ("length", "window", "overlap", "starts"),
    [
        (1024, 512, 1 / 3, [0, 256, 512]),
        (2048, 1024, 1 / 3, [0, 512, 1024]),
        (5, 3, 1 / 3, [0, 2]),  # 3 x (1 - 1/3) is just below or above 2 in floating point
        (10, 4, 0.0, [0, 3, 6]),
        (8, 4, 0.0, [0, 4]),
        (7, 7, 0.5, [0]),
        (4, 2, 0.9, [0, 1, 2]),
    ],
)
def test_windows_begin_where_they_should(length: int, window: int, overlap: float, starts: list[int]) -> None:
    assert window_starts(length, window, overlap) == starts


def test_windows_cover_all_share_enough_and_are_as_few_as_can_be() -> None:
    for overlap in (Fraction(0), Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(2, 3), Fraction(9, 10)):
        for length in range(1, 40):
            for window in range(1, length + 1):
                found = window_starts(length, window, float(overlap))
                assert found == oracles.window_starts(length, window, overlap), (length, window, overlap)


def test_one_window_over_all_is_the_whole_image() -> None:
    image, network = torch.rand(2, 3, 9, 13, dtype=torch.float64), Positional()
    whole = predict_whole(network, image)
    assert torch.equal(predict_sliding(network, image, window=(9, 13), overlap=0.5), whole)
    assert not torch.equal(predict_sliding(network, image, window=(4, 5), overlap=0.5), whole)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_with_windows_too_each_image_is_judged_once(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, sliding = images_of(7), partial(predict_sliding, window=(3, 2), overlap=0.5)
    monkeypatch.setattr(room, "world_size", lambda: world_size)
    total = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.int64)
    for rank in range(world_size):
        monkeypatch.setattr(room, "rank", lambda rank=rank: rank)
        total += evaluate(Brightest(), images, device=torch.device("cpu"), dtype=torch.float64, predict=sliding)
    assert total.sum() == (images.labels(range(7)) != IGNORE_INDEX).sum()
    assert torch.equal(total, judge_alone(images))  # the brightest channel is the same in every window


def judge_alone(images: CachedSplit) -> Tensor:
    """What one rank counts that sees whole images."""
    prediction = torch.from_numpy(images.images(range(len(images))).argmax(axis=3))
    return confusion_of(prediction, torch.from_numpy(images.labels(range(len(images)))).long(), NUM_CLASSES)


def test_a_set_without_any_label_gives_no_count() -> None:
    assert judge(images_of(2, without_label=(0, 1))).sum() == 0
