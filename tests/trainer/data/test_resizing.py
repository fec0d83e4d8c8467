"""Bringing images and labels to another size."""

import numpy as np
import pytest

from tests import oracles
from tests.trainer.data.conftest import picture
from trainer.data.resizing import AS_STORED, Filters, resize_image, resize_label


def stored(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_labels_are_resized_to_the_value_nearest_to_each_centre() -> None:
    label = np.random.default_rng(0).integers(0, 19, (30, 50), dtype=np.uint8)
    small = resize_label(label, height=7, width=20)
    rows, columns = ((np.arange(7) + 0.5) * 30 / 7).astype(int), ((np.arange(20) + 0.5) * 50 / 20).astype(int)
    np.testing.assert_array_equal(small, label[np.ix_(rows, columns)])


def test_images_are_resized_with_antialiasing() -> None:
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_image(stripes, height=2, width=8)
    assert small.shape == (2, 8, 3)
    assert np.abs(small[:, 1:-1].astype(int) - 127).max() < 20  # without antialiasing it would be 0 or 255


def test_box_is_the_published_mean_of_2x2_pixels_or_one_level_lighter() -> None:
    image = picture(64, 128)
    published = image.reshape(32, 2, 64, 2, 3).mean(axis=(1, 3)).astype(np.uint8)  # downscale_local_mean, cut off
    small = resize_image(image, height=32, width=64, rule="box")
    assert set(np.unique(small.astype(int) - published)) == {0, 1}


def test_box_and_bilinear_differ_at_a_border_between_blocks() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:] = 200
    assert resize_image(image, height=2, width=4, rule="box")[0, :, 0].tolist() == [0, 0, 200, 200]
    assert resize_image(image, height=2, width=4)[0, :, 0].tolist() == [0, 25, 175, 200]


def test_the_majority_is_the_most_frequent_value_of_each_block() -> None:
    label = stored([[1, 1, 4, 7], [2, 1, 7, 7], [5, 3, 0, 9], [3, 3, 9, 9]])
    assert resize_label(label, height=2, width=2, rule="majority").tolist() == [[1, 7], [3, 9]]


def test_of_equally_frequent_values_the_smallest_wins() -> None:
    label = stored([[9, 2, 7, 7], [2, 9, 4, 4], [8, 6, 255, 0], [5, 7, 0, 255]])
    assert resize_label(label, height=2, width=2, rule="majority").tolist() == [[2, 4], [5, 0]]


def test_values_that_count_nowhere_vote_apart_as_they_are_stored() -> None:
    label = stored([[1, 3, 26], [1, 3, 26], [26, 3, 26]])  # 2 x 1 and 3 x 3 are more void than 4 x 26, yet car wins
    assert resize_label(label, height=1, width=1, rule="majority").tolist() == [[26]]


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (5, 7), (1, 1), (10, 11), (7, 20), (23, 2), (30, 40)])
def test_the_majority_is_what_counting_each_cell_gives(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(size))
    label = rng.choice(np.array([0, 1, 4, 7, 33, 255], np.uint8), (10, 11))
    small = resize_label(label, height=size[0], width=size[1], rule="majority")
    assert small.dtype == np.uint8
    assert small.tolist() == oracles.majority_label(label.tolist(), *size)


def test_more_than_255_equal_pixels_are_counted() -> None:
    label = np.full((20, 20), 3, np.uint8)  # 260 times 3 would be 4 in 8 bits
    label[:7] = 1
    assert resize_label(label, height=1, width=1, rule="majority").tolist() == [[3]]


@pytest.mark.parametrize("filters", [Filters(), Filters("box", "majority"), AS_STORED])
def test_at_its_own_size_nothing_changes(filters: Filters) -> None:
    image, label = picture(6, 9), picture(6, 9)[..., 0]
    np.testing.assert_array_equal(resize_image(image, height=6, width=9, rule=filters.image), image)
    np.testing.assert_array_equal(resize_label(label, height=6, width=9, rule=filters.label), label)


def test_the_rules_of_the_default_filters_are_what_existing_caches_were_keyed_by() -> None:
    assert Filters().rules == "image: PIL bilinear, antialiased; label: PIL nearest"
    assert Filters().suffix == ""


def test_every_choice_of_filters_has_rules_and_a_suffix_of_its_own() -> None:
    choices = [Filters(image, label) for image in ("bilinear", "box") for label in ("nearest", "majority")]
    choices.append(AS_STORED)
    assert len({choice.rules for choice in choices}) == len({choice.suffix for choice in choices}) == 5
