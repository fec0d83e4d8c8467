"""Pictures of a mix and of predictions: what is drawn is what the method would do, and what evaluation sees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.contracts import small_spec, small_trial
from trainer.build import build_mask
from trainer.data.cache import CachedSplit
from trainer.drawing import WRONG
from trainer.evaluate import evaluate, predict_whole
from trainer.losses import IGNORE_INDEX
from trainer.methods.masks import MaskFn
from trainer.methods.mix import blend
from trainer.metrics import confusion_of
from trainer.preview import mix_panels, prediction_panels, predictor_on, spread_over, truth_panels
from trainer.randomness import key_of, sample_keys
from trainer.spec import BoxMask, ClassMask

PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=np.uint8)
CLASS_MAPS = torch.tensor([[[0, 1, 2, 3]] * 4, [[3, 2, 1, IGNORE_INDEX]] * 4])
IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Panels = list[list[tuple[str, np.ndarray]]]


def left_half(class_map: Tensor, _keys: Tensor, _batch_key: int) -> Tensor:
    """A mask that keeps the two left columns."""
    return torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(len(class_map), 1, 4, 4)


def panels_of(*masks: tuple[str, MaskFn], step: int = 0) -> Panels:
    """The panels of the small pair."""
    return mix_panels(IMAGES, CLASS_MAPS, masks or (("half", left_half),), PALETTE, seed=3, step=step)


def pixels(image: Tensor) -> list[list[list[int]]]:
    """What a picture of an image [3, H, W] holds."""
    return (image * 255).round().permute(1, 2, 0).int().tolist()


def test_the_first_row_shows_the_pair_and_its_classes() -> None:
    top = dict(panels_of()[0])
    assert list(top) == ["image a", "image b", "classes of a", "classes of b"]
    assert top["image b"].tolist() == pixels(IMAGES[1])
    assert top["classes of a"][0].tolist() == PALETTE.tolist()


def test_void_is_drawn_black() -> None:
    assert dict(panels_of()[0])["classes of b"][:, 3].tolist() == [[0, 0, 0]] * 4


def test_each_method_has_a_row_with_its_area() -> None:
    titles = [title for title, _ in panels_of(("half", left_half), ("box", build_mask(BoxMask(), 4)))[1]]
    assert titles == [
        "half: mask (white keeps a, 50%)",
        "half: a onto b",
        "half: mixed classes",
        "half: b onto a",
    ]


def test_white_keeps_image_a_and_black_takes_b() -> None:
    (_, mask), (_, mixed), (_, classes), (_, backwards) = panels_of()[1]
    assert mask[0].tolist() == [[255] * 3] * 2 + [[0] * 3] * 2
    assert mixed.tolist() == pixels(torch.cat([IMAGES[0, :, :, :2], IMAGES[1, :, :, 2:]], dim=2))
    assert classes[0].tolist() == [*PALETTE[:2].tolist(), PALETTE[1].tolist(), [0, 0, 0]]
    assert backwards.tolist() == pixels(torch.cat([IMAGES[1, :, :, :2], IMAGES[0, :, :, 2:]], dim=2))


def test_the_picture_is_of_the_mask_that_training_would_draw() -> None:
    mask_fn, key = build_mask(ClassMask(), 4), key_of(3, "mix_mask", 11)
    mask = mask_fn(torch.where(CLASS_MAPS == IGNORE_INDEX, 0, CLASS_MAPS), sample_keys(key, torch.arange(2)), key)
    (_, drawn), (_, mixed), _, _ = panels_of(("classmix", mask_fn), step=11)[1]
    assert (drawn[..., 0] // 255).tolist() == mask[0, 0].int().tolist()
    assert mixed.tolist() == pixels(blend(mask, IMAGES, IMAGES.roll(-1, 0))[0])


def test_a_blend_shows_the_classes_of_the_image_it_has_more_of() -> None:
    for share, more in ((0.01, 1), (0.6, 0)):
        row = panels_of(("ict", lambda class_map, _keys, _key, share=share: torch.full((2, 1, 4, 4), share)))[1]
        palette = np.vstack([PALETTE, np.zeros((252, 3), np.uint8)])
        assert row[2][1].tolist() == palette[CLASS_MAPS[more].numpy()].tolist()


# --- predictions --------------------------------------------------------------------------------------------------


@pytest.fixture
def split(small_data: Path) -> CachedSplit:
    """The five evaluation images of the small dataset."""
    return small_trial(small_spec("supervised"), small_data).evaluation_images


def network() -> nn.Module:
    """Scores three channels as they are, and a fourth class by a batch norm whose mode is seen in what it says."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)).double().train()


@pytest.mark.parametrize(("wanted", "places"), [(1, [2]), (2, [1, 3]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (9, 5)])
def test_images_are_spread_evenly_and_none_comes_twice(wanted: int, places: object, split: CachedSplit) -> None:
    found = spread_over(split, wanted)
    assert found == (places if wanted < 9 else [0, 1, 2, 3, 4])


def test_images_without_a_label_are_never_chosen(split: CachedSplit) -> None:
    some = replace(split, has_label=np.array([False, True, False, True, True]))
    assert spread_over(some, 2) == [1, 4]
    assert spread_over(some, 5) == [1, 3, 4]


def test_what_is_predicted_is_what_evaluation_counts(split: CachedSplit) -> None:
    net, cpu = network(), torch.device("cpu")
    class_map_of = predictor_on(split, predict_whole, device=cpu, dtype=torch.float64)
    confusion = torch.zeros(4, 4, dtype=torch.int64)
    for place in range(len(split)):
        prediction = torch.from_numpy(class_map_of(net, place)).long()
        confusion += confusion_of(prediction, torch.from_numpy(split.label(place).copy()).long(), 4)
    assert torch.equal(confusion, evaluate(net, split, device=cpu, dtype=torch.float64))
    assert net.training


def test_panels_hold_image_truth_prediction_and_errors(split: CachedSplit) -> None:
    image, label = split.image(2), split.label(2)
    prediction = np.where(label == 0, 1, label).astype(np.uint8)  # every pixel of class 0 is wrong, no other
    prediction[label == IGNORE_INDEX] = 3
    (_, shown), (_, truth) = truth_panels("name", image, label, PALETTE)
    (_, drawn), (title, errors) = prediction_panels("net", image, label, prediction, PALETTE)
    assert np.array_equal(shown, image)
    assert np.array_equal(truth[label == 1], np.broadcast_to(PALETTE[1], truth[label == 1].shape))
    assert np.array_equal(drawn[label == 0], np.broadcast_to(PALETTE[1], drawn[label == 0].shape))
    assert np.array_equal((errors == WRONG).all(axis=2), label == 0)
    assert title == f"net: {(label == 0).sum() / (label != IGNORE_INDEX).sum():.1%} wrong"
