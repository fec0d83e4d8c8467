"""Statistics of masks: by hand, and against searches and loops over pixels that know nothing of scipy."""

from math import isnan

import numpy as np
import pytest

from trainer.data.folders import IGNORE
from trainer.mask_statistics import MaskStatistics, find_objects, mask_statistics, without_ignored

Grid = list[list[int]]
NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))


# --- a second way to compute them ---------------------------------------------------------------------------------


def regions(values: Grid) -> list[set[tuple[int, int]]]:
    """The 4-connected regions of equal value, by walking from pixel to pixel."""
    left = {(y, x) for y in range(len(values)) for x in range(len(values[0]))}
    found = []
    while left:
        start = min(left)
        region, border = set[tuple[int, int]](), [start]
        while border:
            y, x = border.pop()
            if (y, x) in left and values[y][x] == values[start[0]][start[1]]:
                left.remove((y, x))
                region.add((y, x))
                border += [(y + down, x + right) for down, right in NEIGHBOURS]
        found.append(region)
    return found


def by_walking(mask: Grid, label: Grid, min_pixels: int) -> list[float]:
    """The six statistics in their order."""
    height, width = len(mask), len(mask[0])
    pixels = [(y, x) for y in range(height) for x in range(width)]
    edges = [
        ((y, x), (y + down, x + right))
        for y, x in pixels
        for down, right in NEIGHBOURS[:2]
        if y + down < height and x + right < width and mask[y][x] != mask[y + down][x + right]
    ]
    ends = [(label[a[0]][a[1]], label[b[0]][b[1]]) for a, b in edges]
    judged = [pair for pair in ends if IGNORE not in pair]
    objects = [r for r in regions(label) if len(r) >= min_pixels and label[min(r)[0]][min(r)[1]] != IGNORE]
    cut = [region for region in objects if len({mask[y][x] for y, x in region}) == 2]
    return [
        sum(mask[y][x] for y, x in pixels) / len(pixels),
        len(regions(mask)),
        len(edges) / len(pixels),
        sum(a == b for a, b in judged) / len(judged) if judged else float("nan"),
        (len(edges) - len(judged)) / len(edges) if edges else float("nan"),
        len(cut) / len(objects) if objects else float("nan"),
    ]


def measured(mask: Grid, label: Grid, min_pixels: int = 1) -> MaskStatistics:
    """The statistics of lists."""
    label_map = np.array(label, np.uint8)
    return mask_statistics(np.array(mask, bool), label_map, find_objects(label_map, min_pixels=min_pixels))


def values_of(statistics: MaskStatistics) -> list[float]:
    """In the order of the fields."""
    return [getattr(statistics, name) for name in MaskStatistics.__dataclass_fields__]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [(1, 7), (6, 1), (5, 9), (12, 8)])
def test_statistics_equal_those_found_by_walking(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 4, IGNORE], size, p=[0.4, 0.3, 0.2, 0.1]).tolist()
    mask = (rng.random(size) < rng.choice([0.02, 0.3, 0.5])).astype(int).tolist()
    found = values_of(measured(mask, label, min_pixels=seed % 4 + 1))
    assert found == pytest.approx(by_walking(mask, label, seed % 4 + 1), nan_ok=True)


# --- by hand ------------------------------------------------------------------------------------------------------


def test_half_an_image_by_hand() -> None:
    label = [[0, 0, 1, 1]] * 2
    on_the_border = measured([[1, 1, 0, 0]] * 2, label)
    assert on_the_border == MaskStatistics(0.5, 2, 2 / 8, 0.0, 0.0, 0.0)
    inside_an_object = measured([[1, 0, 0, 0]] * 2, label)
    assert inside_an_object == MaskStatistics(0.25, 2, 2 / 8, 1.0, 0.0, 1 / 2)


def test_a_chessboard_has_an_edge_between_all_neighbours_and_a_part_per_pixel() -> None:
    board = [[(y + x) % 2 for x in range(4)] for y in range(3)]
    found = measured(board, [[0] * 4] * 3)
    assert (found.num_parts, found.edge_length) == (12, (3 * 3 + 2 * 4) / 12)
    assert (found.artificial_edge_share, found.cut_object_share) == (1.0, 1.0)


def test_pixels_that_touch_at_a_corner_are_two_parts() -> None:
    assert measured([[1, 0], [0, 1]], [[0, 0], [0, 0]]).num_parts == 4
    assert find_objects(np.array([[3, 5], [5, 3]], np.uint8), min_pixels=1).sizes.tolist() == [1, 1, 1, 1]


def test_edges_at_ignored_pixels_are_left_out_and_counted() -> None:
    # Edges, left to right: inside label 0; at an ignored pixel; on the border of 0 and 1; at an ignored pixel.
    label = [[0, 0, 0, IGNORE, 0, 1, 1, IGNORE, IGNORE]]
    found = measured([[0, 1, 1, 0, 0, 1, 1, 1, 0]], label)
    assert found.edge_length == 4 / 9
    assert (found.artificial_edge_share, found.ignored_edge_share) == (1 / 2, 2 / 4)


def test_ignored_pixels_and_small_parts_are_no_objects() -> None:
    label = np.array([[7, 7, 7, IGNORE, 7, 2]], np.uint8)
    assert find_objects(label, min_pixels=1).is_object.tolist() == [True, True, True]
    objects = find_objects(label, min_pixels=2)
    assert sorted(objects.sizes[objects.is_object].tolist()) == [3]
    assert mask_statistics(np.array([[1, 0, 0, 0, 0, 0]], bool), label, objects).cut_object_share == 1.0
    assert mask_statistics(np.array([[0, 0, 0, 1, 1, 0]], bool), label, objects).cut_object_share == 0.0


def test_shares_of_nothing_are_not_numbers() -> None:
    empty = measured([[0, 0]], [[IGNORE, IGNORE]])
    assert (empty.area_share, empty.num_parts, empty.edge_length) == (0.0, 1, 0.0)
    assert all(isnan(value) for value in values_of(empty)[3:])


def test_a_mask_of_another_shape_is_refused() -> None:
    label = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        mask_statistics(np.zeros((3, 2), bool), label, find_objects(label))


# --- ignored pixels get a class -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_an_ignored_pixel_gets_the_label_of_a_nearest_labelled_one(seed: int) -> None:
    label = np.random.default_rng(seed).choice([0, 1, 2, IGNORE], (7, 11), p=[0.1, 0.1, 0.1, 0.7]).astype(np.uint8)
    filled = without_ignored(label)
    known = [(int(y), int(x)) for y, x in np.argwhere(label != IGNORE)]
    for y, x in np.ndindex(label.shape):
        nearest = min((y - v) ** 2 + (x - u) ** 2 for v, u in known)
        assert filled[y, x] in {label[v, u] for v, u in known if (y - v) ** 2 + (x - u) ** 2 == nearest}


def test_a_map_without_labels_becomes_class_0() -> None:
    assert without_ignored(np.full((2, 2), IGNORE, np.uint8)).tolist() == [[0, 0], [0, 0]]
