"""The SegNet layout, in files of our own and, where MIXGRID_TEST_CAMVID names a data folder, in the true ones."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.data.conftest import picture, save
from trainer.data.camvid import camvid_layout
from trainer.data.catalog import open_layout
from trainer.data.checking import check
from trainer.data.folders import DataError, read_label
from trainer.spec import CamVid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, suffix in (("0001TP_006690", "png"), ("0001TP_006720", "webp")):
        save(tmp_path / f"train/{name}.{suffix}", picture(6, 12))
        save(tmp_path / f"trainannot/{name}.png", np.tile(np.arange(12, dtype=np.uint8), (6, 1)))
    return tmp_path


def test_frames_may_be_png_or_webp(root: Path) -> None:
    samples = camvid_layout(root).samples("train")
    assert [sample.name for sample in samples] == ["0001TP_006690", "0001TP_006720"]
    assert all(sample.label is not None for sample in samples)
    assert check(camvid_layout(root), "train") == []


def test_value_eleven_is_ignored_and_twelve_refused(root: Path) -> None:
    layout = camvid_layout(root)
    label = read_label(layout, root / "trainannot/0001TP_006690.png")
    assert label[0].tolist() == [*range(11), 255]
    with pytest.raises(DataError, match=r"value 12 at 4 .* may hold 0\.\.11"):
        read_label(layout, save(root / "bad.png", np.full((2, 2), 12, np.uint8)))


def test_there_are_eleven_classes_with_a_colour_each(root: Path) -> None:
    layout = camvid_layout(root)
    assert len(layout.class_names) == len(np.unique(layout.palette, axis=0)) == 11
    assert layout.palette[layout.class_names.index("tree")].tolist() == [128, 128, 0]


@pytest.mark.skipif("MIXGRID_TEST_CAMVID" not in os.environ, reason="MIXGRID_TEST_CAMVID names no data folder")
def test_the_true_set_has_the_published_counts_and_no_bad_file() -> None:
    layout = open_layout(CamVid(), Path(os.environ["MIXGRID_TEST_CAMVID"]))
    for split, count in (("train", 367), ("val", 101), ("test", 233)):
        assert len(layout.samples(split)) == count
        assert layout.count_remark(split, count) is None
        assert check(layout, split) == []
