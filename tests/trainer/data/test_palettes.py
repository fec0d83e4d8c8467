"""Colours of classes: apart for whoever looks."""

import numpy as np
import pytest

from trainer.data.palettes import as_seen, distinct_palette


def least_distance(palette: np.ndarray) -> float:
    """The smallest distance of any two colours for any of three kinds of eyes, pair by pair."""
    return min(
        float(np.sqrt(((eye[i] - eye[j]) ** 2).sum())) for eye in as_seen(palette) for i in range(len(eye))
        for j in range(i)
    )  # fmt: skip


def test_no_colour_comes_twice_and_none_is_black() -> None:
    palette = distinct_palette(254)
    assert (palette.shape, palette.dtype) == ((254, 3), np.uint8)
    assert len(np.unique(palette, axis=0)) == 254
    assert palette.any(axis=1).all()


def test_a_longer_palette_begins_with_the_shorter_one() -> None:
    assert distinct_palette(30)[:12].tolist() == distinct_palette(12).tolist()


@pytest.mark.parametrize(("num_classes", "least"), [(5, 0.17), (11, 0.1), (19, 0.07)])
def test_colours_are_apart_for_eyes_without_red_or_green(num_classes: int, least: float) -> None:
    assert least_distance(distinct_palette(num_classes)) > least
    ground = np.array([(0, 0, 0), (255, 255, 255)], np.uint8)
    assert all(least_distance(np.vstack([color, ground])) > least for color in distinct_palette(num_classes))


def test_red_and_green_are_near_for_eyes_that_see_no_green_and_far_for_others() -> None:
    red, green = as_seen(np.array([(200, 30, 30), (110, 110, 30)], np.uint8)).transpose(1, 0, 2)
    apart = np.linalg.norm(red - green, axis=1)
    assert apart[0] > 2 * apart[2]


def test_white_is_white_to_everybody() -> None:
    white = as_seen(np.array([(255, 255, 255)], np.uint8))
    assert np.allclose(white[:, 0], (1, 0, 0), atol=1e-3)
