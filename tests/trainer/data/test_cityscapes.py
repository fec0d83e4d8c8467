"""The true layout, the 19 ids and their colours."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.data.conftest import NAMES, save
from trainer.data.cityscapes import CLASS_NAMES, cityscapes_layout, label_ids_of
from trainer.data.folders import UNKNOWN, DataError, allowed_values, read_label

# The trained ids in the order of their train ids, written down from the published list and from nothing of ours.
TRAINED_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def test_the_label_table_equals_the_published_ids() -> None:
    expected = dict.fromkeys((*range(34), 255), 255) | {stored: i for i, stored in enumerate(TRAINED_IDS)}
    table = cityscapes_layout(Path()).label_table
    for stored in range(256):
        assert table[stored] == expected.get(stored, UNKNOWN)
    assert allowed_values(table) == "0..33, 255"


def test_predictions_go_to_the_server_with_the_published_ids() -> None:
    assert label_ids_of(CLASS_NAMES).tolist() == TRAINED_IDS
    assert label_ids_of(("car", "sky")).tolist() == [26, 23]
    table = cityscapes_layout(Path()).label_table
    assert table[label_ids_of(CLASS_NAMES)].tolist() == list(range(19))
    with pytest.raises(DataError, match="--ids cityscapes: no Cityscapes class is called pavement, tree; there are"):
        label_ids_of(("sky", "pavement", "tree"))


def test_classes_and_colours_are_the_official_ones() -> None:
    layout = cityscapes_layout(Path())
    assert len(layout.class_names) == 19
    assert (layout.class_names[0], layout.class_names[13], layout.class_names[18]) == ("road", "car", "bicycle")
    assert layout.palette.shape == (19, 3)
    assert layout.palette.dtype == np.uint8
    assert layout.palette[[0, 13, 18]].tolist() == [[128, 64, 128], [0, 0, 142], [119, 11, 32]]


def test_samples_are_named_by_city_and_frame(cityscapes: Callable[..., Path]) -> None:
    layout = cityscapes_layout(cityscapes(names=NAMES[::-1]))
    samples = layout.samples("train")
    assert tuple(sample.name for sample in samples) == NAMES
    label = read_label(layout, samples[0].label or Path())
    np.testing.assert_array_equal(label, np.repeat([[0] * 16 + [18] * 16], 16, axis=0))


def test_colour_and_instance_files_beside_the_labels_change_nothing(cityscapes: Callable[..., Path]) -> None:
    root = cityscapes()
    save(root / f"gtFine/train/{NAMES[0]}_gtFine_color.png", np.zeros((16, 32, 3), np.uint8))
    save(root / f"leftImg8bit/train/{NAMES[0]}_rightImg8bit.png", np.zeros((16, 32, 3), np.uint8))
    assert len(cityscapes_layout(root).samples("train")) == 3


def test_an_id_that_cityscapes_does_not_have_is_refused(cityscapes: Callable[..., Path]) -> None:
    path = save(cityscapes() / "bad.png", np.full((16, 32), 34, np.uint8))
    with pytest.raises(DataError, match=r"bad\.png holds the value 34 at 512 .* may hold 0\.\.33, 255"):
        read_label(cityscapes_layout(path.parent), path)


def test_a_choice_of_classes_ignores_the_others() -> None:
    layout = cityscapes_layout(Path(), name="few", class_names=("sky", "road"))
    assert [layout.label_table[stored] for stored in (23, 7, 8, 255)] == [0, 1, 255, 255]
    assert layout.palette.tolist() == [[70, 130, 180], [128, 64, 128]]
    with pytest.raises(DataError, match="few: no Cityscapes class is called moon"):
        cityscapes_layout(Path(), name="few", class_names=("moon",))


def test_other_counts_than_the_published_ones_are_told_not_refused(cityscapes: Callable[..., Path]) -> None:
    layout = cityscapes_layout(cityscapes())
    remark = layout.count_remark("train", len(layout.samples("train")))
    assert remark is not None
    assert "3 images" in remark
    assert "2975" in remark
    assert layout.count_remark("val", 500) is None
    assert cityscapes_layout(Path(), name="synthetic", class_names=CLASS_NAMES).count_remark("train", 3) is None
