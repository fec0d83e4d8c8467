"""Pictures worked out by hand, and the files they become."""

import io

import numpy as np
import pytest
from PIL import Image

from trainer.drawing import (
    WRONG,
    colored,
    errors_on,
    overlaid,
    png_of,
    scale_for,
    sheet_of,
    small_image,
    small_map,
    to_png,
    to_small_png,
    wrong_share,
)

PALETTE = np.array([[200, 0, 0], [0, 100, 50]], np.uint8)
IMAGE = np.array([[[10, 20, 30], [255, 255, 255], [0, 0, 0], [100, 100, 100]]], np.uint8)
LABEL = np.array([[0, 1, 255, 0]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1]], np.uint8)


def read(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_classes_have_the_colours_of_the_palette_and_void_is_black() -> None:
    assert colored(LABEL, PALETTE).tolist() == [[[200, 0, 0], [0, 100, 50], [0, 0, 0], [200, 0, 0]]]


def test_an_overlay_is_half_image_half_colour_and_void_shows_the_image() -> None:
    assert overlaid(IMAGE, LABEL, PALETTE).tolist() == [[[105, 10, 15], [128, 178, 153], [0, 0, 0], [150, 50, 50]]]
    assert overlaid(IMAGE, np.full((1, 4), 255, np.uint8), PALETTE).tolist() == IMAGE.tolist()


def test_errors_are_bright_what_is_right_is_dark_and_what_does_not_count_is_striped() -> None:
    drawn = errors_on(IMAGE, LABEL, PREDICTION)[0]
    assert drawn[1].tolist() == drawn[3].tolist() == list(WRONG)
    assert drawn[0].tolist() == [7, 7, 7]  # 0.4 of its grey, 0.299 x 10 + 0.587 x 20 + 0.114 x 30 = 18
    assert len(set(drawn[2].tolist())) == 1
    assert 102 < drawn[2][0] < 160


def test_stripes_run_slantwise_through_all_that_does_not_count() -> None:
    nothing = np.full((12, 12), 255, np.uint8)
    drawn = errors_on(np.zeros((12, 12, 3), np.uint8), nothing, np.zeros((12, 12), np.uint8))[..., 0]
    assert len(np.unique(drawn)) == 2
    assert np.array_equal(drawn[1:, :-1], drawn[:-1, 1:])
    assert not np.array_equal(drawn[:3], drawn[3:6])


def test_an_error_is_lighter_than_anything_that_is_right() -> None:
    white = np.full((1, 1, 3), 255, np.uint8)
    right = errors_on(white, np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    weights = (0.2126, 0.7152, 0.0722)  # of luminance
    assert right[0, 0] @ weights < 0.6 * (np.array(WRONG) @ weights)


def test_the_share_of_errors_leaves_out_what_does_not_count() -> None:
    assert wrong_share(LABEL, PREDICTION) == 2 / 3
    assert wrong_share(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8)) == 0


def test_small_pictures_stay_and_large_ones_become_256_wide_without_new_classes() -> None:
    assert small_image(IMAGE) is IMAGE
    stripes = np.tile(np.array([0, 7], np.uint8), (300, 256))
    assert small_map(stripes).shape == (150, 256)
    assert set(np.unique(small_map(stripes))) <= {0, 7}
    assert small_image(np.repeat(stripes[..., None] * 30, 3, axis=2)).mean() == pytest.approx(105, abs=2)


def test_the_sheet_is_a_png_that_holds_every_picture() -> None:
    rows = [[("one", IMAGE), ("two", 255 - IMAGE)], [("three", np.full((3, 2, 3), 9, np.uint8))]]
    sheet = read(png_of(rows, scale=5))
    assert sheet.shape == (6 + (5 + 16 + 6) + (15 + 16 + 6), 6 + 2 * (20 + 6), 3)
    first, second = sheet[22:27, 6:26], sheet[22:27, 32:52]
    for part in (slice(0, None, 5), slice(4, None, 5)):
        assert np.array_equal(first[::5, part], IMAGE)
        assert np.array_equal(second[::5, part], 255 - IMAGE)
    assert (sheet[27 + 22 : 27 + 37, 6:16] == 9).all()


def test_pictures_of_several_heights_do_not_cover_each_other() -> None:
    low, high = np.zeros((2, 4, 3), np.uint8), np.full((9, 4, 3), 9, np.uint8)
    sheet = read(png_of([[("low", low), ("high", high)], [("low", low), ("low", low)]]))
    assert (sheet == 9).all(axis=2).sum() == 36


def test_small_pictures_are_enlarged_until_titles_fit() -> None:
    assert [scale_for(width) for width in (32, 64, 128, 255, 256, 1024)] == [8, 4, 2, 2, 1, 1]
    assert read(sheet_of([[("one", IMAGE)]])).shape == (64 + 28, 256 + 12, 3)


@pytest.mark.parametrize("title", ["x" * 500, "naïve — \udc80 \n 中 💥", ""])
def test_a_title_stays_above_its_own_picture(title: str) -> None:
    white = np.full((4, 40, 3), 255, np.uint8)
    sheet = read(png_of([[(title, white), ("", white)]]))
    assert (sheet[:, 46:] == 255).all()


def test_a_png_of_class_indices_holds_the_indices() -> None:
    with Image.open(io.BytesIO(to_png(LABEL))) as file:
        assert file.mode == "L"
        assert np.asarray(file).tolist() == LABEL.tolist()


def test_few_colours_are_kept_exactly_and_many_become_256() -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    few = noise // 64 * 85
    assert np.array_equal(read(to_small_png(few)), few)
    for picture in (few, noise):
        with Image.open(io.BytesIO(to_small_png(picture))) as file:
            assert file.mode == "P"
    smooth = np.stack(np.broadcast_arrays(np.arange(256)[:, None], np.arange(256)[None], 128), axis=-1).astype(np.uint8)
    assert np.abs(read(to_small_png(smooth)).astype(int) - smooth).mean() < 6
    assert len(to_small_png(noise)) < len(to_png(noise)) / 2
