"""Pictures of a mix: what is drawn is what the method would do."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainer.build import build_mask
from trainer.drawing import png_of, scale_for
from trainer.losses import IGNORE_INDEX
from trainer.methods.masks import MaskFn
from trainer.methods.mix import blend
from trainer.preview import mix_panels
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


def test_the_sheet_is_a_png_that_holds_every_picture() -> None:
    rows = panels_of()
    sheet = Image.open(io.BytesIO(png_of(rows, scale=5)))
    assert sheet.format == "PNG"
    assert sheet.size == (4 * (20 + 6) + 6, 2 * (20 + 16 + 6) + 6)
    picture = np.asarray(sheet)[6 + 16 : 6 + 16 + 20, 6 : 6 + 20]
    assert np.array_equal(picture[::5, ::5], rows[0][0][1])
    assert np.array_equal(picture[4::5, 4::5], rows[0][0][1])


def test_small_pictures_are_enlarged_until_titles_fit() -> None:
    assert [scale_for(width) for width in (32, 64, 128, 255, 256, 1024)] == [8, 4, 2, 2, 1, 1]


def test_a_blend_shows_the_classes_of_the_image_it_has_more_of() -> None:
    for share, more in ((0.01, 1), (0.6, 0)):
        row = panels_of(("ict", lambda class_map, _keys, _key, share=share: torch.full((2, 1, 4, 4), share)))[1]
        palette = np.vstack([PALETTE, np.zeros((252, 3), np.uint8)])
        assert row[2][1].tolist() == palette[CLASS_MAPS[more].numpy()].tolist()
