"""What a spec reads: which splits, at which sizes."""

from pathlib import Path

import numpy as np
import pytest

from tests.contracts import SMALL, small_spec
from tests.trainer.data.conftest import picture, save
from trainer.data.catalog import open_layout
from trainer.data.folders import DataError, Layout, read_image, read_label
from trainer.data.opening import find_splits, open_splits, with_splits_of_their_own
from trainer.spec import Evaluation, TrialSpec

FULL = ("full_whole", "full_sliding")


def spec_of(protocol: str = "resized", **changes: object) -> TrialSpec:
    """The small dataset at 8x16, half a quarter of its files' 32x64."""
    dataset = SMALL.model_copy(update={"height": 8, "width": 16, **changes})
    return small_spec("supervised", dataset=dataset, evaluation=Evaluation(protocol=protocol))


@pytest.fixture
def layout(small_data: Path) -> Layout:
    return open_layout(SMALL, small_data / "data")


def test_both_splits_are_resized_by_default(layout: Layout, tmp_path: Path) -> None:
    train, judged = open_splits(spec_of(), layout.root, tmp_path)
    assert (train.height, train.width, len(train)) == (judged.height, judged.width, 16) == (8, 16, 16)
    assert len(judged) == 5


@pytest.mark.parametrize("protocol", FULL)
def test_at_full_size_the_evaluation_split_is_as_its_files_and_training_stays_small(
    protocol: str, layout: Layout, small_data: Path, tmp_path: Path
) -> None:
    train, judged = open_splits(spec_of(protocol), layout.root, tmp_path)
    assert (train.height, train.width) == (8, 16)
    assert (judged.height, judged.width) == (32, 64)
    for index, sample in enumerate(layout.samples("val")):
        np.testing.assert_array_equal(judged.image(index), read_image(sample.image))
        np.testing.assert_array_equal(judged.label(index), read_label(layout, sample.label))


def test_the_filters_of_the_dataset_are_used_for_both_splits(layout: Layout, tmp_path: Path) -> None:
    plain = open_splits(spec_of(), layout.root, tmp_path)
    other = open_splits(spec_of(image_filter="box", label_filter="majority"), layout.root, tmp_path)
    for one, two in zip(plain, other, strict=True):
        assert two.path.name.startswith(f"small-{'train' if len(two) == 16 else 'val'}-8x16-box-majority-")
        assert not np.array_equal(one.images([1]), two.images([1]))


def test_filters_do_not_make_another_cache_of_the_full_size(layout: Layout, tmp_path: Path) -> None:
    one = open_splits(spec_of("full_whole"), layout.root, tmp_path)[1]
    two = open_splits(spec_of("full_sliding", label_filter="majority"), layout.root, tmp_path)[1]
    assert one.path == two.path


def test_images_of_two_sizes_are_refused_at_full_size_with_both_sizes_and_the_cure(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name, width in (("a", 32), ("b", 30)):
            save(tmp_path / f"data/images/{split}/{name}.png", picture(16, width))
            save(tmp_path / f"data/labels/{split}/{name}.png", np.zeros((16, width), np.uint8))
    layout = open_layout(SMALL, tmp_path / "data")
    open_splits(spec_of(), layout.root, tmp_path / "cache")
    with pytest.raises(DataError) as caught:
        open_splits(spec_of("full_whole"), layout.root, tmp_path / "cache")
    for word in ("val/b.png is 16x30", "16x32", "--set evaluation.protocol=resized"):
        assert word in str(caught.value)


def test_only_dataset_and_size_make_something_new_to_prepare() -> None:
    specs = [spec_of(), spec_of().model_copy(update={"seed": 1}), *map(spec_of, FULL), spec_of(label_filter="majority")]
    assert with_splits_of_their_own(specs) == [specs[0], specs[2], specs[4]]


@pytest.mark.parametrize("protocol", ["resized", *FULL])
def test_splits_are_found_once_both_are_built_and_never_built(protocol: str, layout: Layout, tmp_path: Path) -> None:
    spec = spec_of(protocol, image_filter="box")
    assert find_splits(spec, layout, tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()
    built = open_splits(spec, layout.root, tmp_path / "cache")
    found = find_splits(spec, layout, tmp_path / "cache")
    assert found is not None
    assert [split.path for split in found] == [split.path for split in built]
    assert [split.digest for split in found] == [split.digest for split in built]
    built[1].path.unlink()
    assert find_splits(spec, layout, tmp_path / "cache") is None
