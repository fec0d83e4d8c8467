"""From a dataset spec to its layout."""

from pathlib import Path

import numpy as np
import pytest

from trainer.data import synthetic
from trainer.data.catalog import open_layout, palette_of, synthetic_root
from trainer.data.cityscapes import CLASSES
from trainer.data.cityscapes import palette_of as cityscapes_palette
from trainer.data.folders import read_sample
from trainer.spec import CamVid, Cityscapes, Folders, Synthetic

SMALL = Synthetic(scene_height=32, scene_width=64, num_train=3, num_eval=2)


def test_published_sets_lie_below_the_data_folder(tmp_path: Path) -> None:
    assert open_layout(Cityscapes(), tmp_path).root == tmp_path / "cityscapes"
    assert open_layout(CamVid(), tmp_path).root == tmp_path / "camvid"


def test_a_users_own_set_lies_below_the_data_folder(tmp_path: Path) -> None:
    dataset = Folders(name="mine", images="x/i", labels="x/l", class_names=("a", "b"), height=8, width=8)
    layout = open_layout(dataset, tmp_path)
    assert layout.image_folder("train") == tmp_path / "x/i/train"
    assert layout.label_folder("val") == tmp_path / "x/l/val"
    assert layout.palette.shape == (2, 3)


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_layout(CamVid(), Path("~/sets")).root == tmp_path / "sets/camvid"


def test_a_synthetic_set_is_drawn_where_it_is_missing(tmp_path: Path) -> None:
    layout = open_layout(SMALL, tmp_path)
    assert layout.class_names == synthetic.CLASS_NAMES
    assert [len(layout.samples(split)) for split in ("train", "val")] == [3, 2]
    image, label = read_sample(layout, layout.samples("train")[0], height=16, width=32)
    assert image.shape == (16, 32, 3)
    assert label is not None
    assert set(np.unique(label)) <= {*range(len(layout.class_names)), 255}


def test_a_synthetic_set_that_is_there_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_layout(SMALL, tmp_path)
    monkeypatch.setattr(synthetic, "_write_scene", None)
    assert open_layout(SMALL, tmp_path).root == synthetic_root(SMALL, tmp_path)


def test_only_what_is_drawn_decides_the_folder_of_a_synthetic_set(tmp_path: Path) -> None:
    same, other = SMALL.model_copy(update={"height": 8}), SMALL.model_copy(update={"scene_seed": 1})
    assert synthetic_root(same, tmp_path) == synthetic_root(SMALL, tmp_path)
    assert synthetic_root(other, tmp_path) != synthetic_root(SMALL, tmp_path)
    assert synthetic_root(SMALL, tmp_path).name.startswith("synthetic-")


def test_synthetic_classes_keep_the_ids_and_colours_of_cityscapes() -> None:
    assert tuple(CLASSES[name][0] for name in synthetic.CLASS_NAMES) == synthetic.LABEL_IDS
    np.testing.assert_array_equal(cityscapes_palette(synthetic.CLASS_NAMES), synthetic.PALETTE)


def test_the_colours_of_a_dataset_are_those_of_its_layout_and_need_no_file(tmp_path: Path) -> None:
    mine = Folders(name="mine", images="i", labels="l", class_names=("a", "b", "c"), height=8, width=8)
    for dataset in (Cityscapes(), CamVid(), SMALL, mine):
        colours = palette_of(dataset)
        assert colours.tolist() == open_layout(dataset, tmp_path).palette.tolist()
    assert palette_of(SMALL.model_copy(update={"num_train": 10**9})).shape == (len(synthetic.CLASS_NAMES), 3)
