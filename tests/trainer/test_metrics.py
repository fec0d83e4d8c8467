"""Intersection over union: by hand, by looking at every pixel, and the ways to get it wrong."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests import oracles
from trainer import metrics
from trainer.losses import IGNORE_INDEX
from trainer.metrics import class_iou, confusion_of, mean_iou


def draw(classes: int = 6) -> tuple[Tensor, Tensor]:
    """A prediction and a label of which a quarter is ignored; class 4 is in neither, class 5 only predicted."""
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(classes - 2, (2, 9, 8), generator=generator)
    prediction = torch.where(torch.rand(2, 9, 8, generator=generator) < 0.6, label, 5)
    label[torch.rand(2, 9, 8, generator=generator) < 0.25] = IGNORE_INDEX
    return prediction, label


def test_a_confusion_of_three_classes_by_hand_with_one_absent() -> None:
    label = torch.tensor([[[0, 0, 0, 2], [2, 2, IGNORE_INDEX, 0]]])
    prediction = torch.tensor([[[0, 2, 2, 2], [2, 2, 1, 0]]])
    confusion = confusion_of(prediction, label, 3)
    assert confusion.tolist() == [[2, 0, 2], [0, 0, 0], [0, 0, 3]]
    assert class_iou(confusion) == [2 / 4, None, 3 / 5]
    assert mean_iou(class_iou(confusion)) == pytest.approx(0.55)


def test_rows_are_truth_and_columns_prediction() -> None:
    confusion = confusion_of(torch.tensor([[[1, 1, 1]]]), torch.tensor([[[0, 0, 1]]]), 2)
    assert confusion.tolist() == [[0, 2], [0, 1]]
    assert confusion.dtype == torch.int64


def test_each_class_equals_the_count_over_every_pixel() -> None:
    prediction, label = draw()
    expected = oracles.ious_by_counting(prediction.tolist(), label.tolist(), 6)
    assert class_iou(confusion_of(prediction, label, 6)) == expected
    assert expected[4] is None
    assert expected[5] == 0.0


def test_ignored_pixels_are_not_in_the_confusion() -> None:
    prediction, label = draw()
    assert confusion_of(prediction, label, 6).sum().item() == (label != IGNORE_INDEX).sum().item()


def test_an_undefined_class_is_left_out_of_the_mean_and_not_a_zero() -> None:
    assert mean_iou([1.0, None, 0.5]) == 0.75
    assert mean_iou([1.0, 0.0, 0.5]) == 0.5


def test_a_mean_over_no_class_is_none() -> None:
    assert mean_iou([None, None]) is None
    nothing = torch.full((1, 2, 2), IGNORE_INDEX)
    assert class_iou(confusion_of(torch.zeros_like(nothing), nothing, 3)) == [None, None, None]


def test_confusions_of_parts_add_up_to_that_of_the_whole() -> None:
    prediction, label = draw()
    parts = [confusion_of(prediction[i : i + 1], label[i : i + 1], 6) for i in range(2)]
    assert torch.equal(parts[0] + parts[1], confusion_of(prediction, label, 6))


def test_the_gpus_way_of_counting_counts_the_same() -> None:
    value = torch.randint(0, 26, (1000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(metrics._count_on_gpu(value, 30), metrics._count(value, 30))


def test_the_most_likely_class_is_the_first_of_the_highest() -> None:
    scores = torch.randint(0, 4, (2, 6, 5, 7), generator=torch.Generator().manual_seed(0)).float()
    classes = metrics.most_likely(scores)
    assert torch.equal(classes, scores.argmax(dim=1))
    assert classes.dtype == torch.int64
    assert metrics.most_likely(torch.ones(1, 3, 1, 1)).item() == 0


def scores_of(kind: str) -> torch.Tensor:
    drawn = torch.randn(3, 7, 6, 10, generator=torch.Generator().manual_seed(1))
    odd = {"no number": float("nan"), "infinite": float("inf"), "all minus infinite": -float("inf")}
    if kind == "equal scores":
        return drawn.round()
    if kind == "zeros of both signs":
        return torch.where(drawn > 0, 0.0, -0.0)
    if kind in odd:
        drawn[0, 2:5, 1] = odd[kind]
        drawn[1, :, 2] = odd[kind]
        drawn[2, 6, 3, 4] = odd[kind]
    return {
        "bf16": drawn.bfloat16(),
        "float16": drawn.half(),
        "float64": drawn.double() + 1e-12,
        "channels last": drawn.contiguous(memory_format=torch.channels_last),
        "a part of images": drawn[:, :, 1:5, 2:9],
        "one class": drawn[:, :1],
        "no image": drawn[:0],
        "most classes": drawn.repeat(1, 37, 1, 1)[:, :256],
        "more classes": drawn.repeat(1, 37, 1, 1)[:, :257],
    }.get(kind, drawn)


KINDS = (
    *("plain", "equal scores", "zeros of both signs", "no number", "infinite", "all minus infinite", "bf16", "float16"),
    *("float64", "channels last", "a part of images", "one class", "no image", "most classes", "more classes"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_highest_scores_and_classes_are_those_of_torch(kind: str) -> None:
    scores = scores_of(kind)
    before = scores.clone()
    values, classes = metrics.highest(scores)
    wanted = scores.max(dim=1)
    assert torch.equal(classes, wanted.indices)
    torch.testing.assert_close(values, wanted.values, rtol=0, atol=0, equal_nan=True)
    assert (values.dtype, classes.dtype) == (scores.dtype, torch.int64)
    torch.testing.assert_close(scores, before, rtol=0, atol=0, equal_nan=True)


def test_what_is_given_out_is_not_what_came_in() -> None:
    scores = torch.randn(2, 3, 4, 5)
    values, _ = metrics.highest(scores)
    values.zero_()
    assert (scores != 0).all()


def test_a_gradient_goes_through_the_highest_score_where_one_is_wanted() -> None:
    scores = torch.randn(2, 3, 4, 5, requires_grad=True)
    metrics.highest(scores)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert torch.equal(scores.grad.sum(dim=1), torch.ones(2, 4, 5))
    with torch.no_grad():
        assert not metrics.highest(scores)[0].requires_grad


def test_a_tensor_without_numbers_is_asked_of_torch() -> None:
    values, classes = metrics.highest(torch.empty(2, 3, 4, 5, device="meta"))
    assert values.shape == classes.shape == (2, 4, 5)
    with FakeTensorMode():
        assert metrics.highest(torch.empty(2, 3, 4, 5))[1].shape == (2, 4, 5)
