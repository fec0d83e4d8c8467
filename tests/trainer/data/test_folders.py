"""Finding and reading files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainer.data.conftest import picture, save
from trainer.data.described import folders_layout
from trainer.data.folders import (
    IGNORE,
    DataError,
    Layout,
    Sample,
    allowed_values,
    image_size,
    read_image,
    read_label,
    read_sample,
)
from trainer.data.resizing import AS_STORED, Filters
from trainer.spec import Folders


def spec(**changes: object) -> Folders:
    fields = {"name": "mine", "images": "images", "labels": "labels", "class_names": ("a", "b", "c")}
    return Folders.model_validate({"height": 8, "width": 16, **fields, **changes})


def layout_at(root: Path, **changes: object) -> Layout:
    return folders_layout(spec(**changes), root)


def labels_of(values: list[int]) -> np.ndarray:
    return np.tile(np.array(values, np.uint8), (8, 1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, suffix in (("b", "jpg"), ("deep/a", "webp"), ("c", "JPEG"), ("d", "png")):
        save(tmp_path / f"images/train/{name}.{suffix}", picture(8, 4))
    for name in ("b", "deep/a", "d"):
        save(tmp_path / f"labels/train/{name}.png", labels_of([0, 1, 2, 255]))
    return tmp_path


def test_samples_are_found_recursively_in_all_formats_and_sorted(root: Path) -> None:
    samples = layout_at(root).samples("train")
    assert [sample.name for sample in samples] == ["b", "c", "d", "deep/a"]
    assert samples[3].image == root / "images/train/deep/a.webp"
    assert samples[3].label == root / "labels/train/deep/a.png"


def test_an_image_without_a_label_file_is_unlabelled(root: Path) -> None:
    samples = {sample.name: sample for sample in layout_at(root).samples("train")}
    assert samples["c"].label is None
    assert read_sample(layout_at(root), samples["c"], height=4, width=4)[1] is None


def test_hidden_files_and_other_files_are_no_images(root: Path) -> None:
    save(root / "images/train/._b.png", picture(8, 4))
    save(root / "images/train/.trash/x.png", picture(8, 4))
    (root / "images/train/readme.txt").write_text("no image")
    assert len(layout_at(root).samples("train")) == 4


def test_linked_folders_are_followed(root: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/x.png", picture(8, 4))
    (root / "images/train/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "linked/x" in [sample.name for sample in layout_at(root).samples("train")]


def test_images_and_labels_may_share_a_folder(tmp_path: Path) -> None:
    save(tmp_path / "all/train/x.jpg", picture(8, 4))
    save(tmp_path / "all/train/x_label.png", labels_of([0, 1, 2, 0]))
    layout = layout_at(tmp_path, images="all", labels="all", label_suffix="_label.png")
    (sample,) = layout.samples("train")
    assert (sample.name, sample.label) == ("x", tmp_path / "all/train/x_label.png")


@pytest.mark.parametrize("is_there", [True, False])
def test_an_empty_or_missing_folder_says_where_it_looked_and_what_changes_it(tmp_path: Path, is_there: bool) -> None:
    if is_there:
        (tmp_path / "images/train").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        layout_at(tmp_path).samples("train")
    message = str(caught.value)
    assert str(tmp_path / "images/train") in message
    assert "--data" in message
    assert "MIXGRID_DATA" in message
    assert ("does not exist" in message) is not is_there


def test_a_split_without_one_label_names_the_label_it_expected(root: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 4 images.*labels/train/b_gt\.png.*MIXGRID_DATA"):
        layout_at(root, label_suffix="_gt.png").samples("train")


def test_two_images_of_one_name_are_refused(root: Path) -> None:
    save(root / "images/train/b.png", picture(8, 4))
    with pytest.raises(DataError, match=r"b\.jpg.*b\.png|b\.png.*b\.jpg"):
        layout_at(root).samples("train")


def test_stored_values_go_through_the_table(root: Path) -> None:
    layout = layout_at(root, label_ids={0: 2, 1: 0, 2: 255}, ignore_value=9)
    path = save(root / "x.png", labels_of([0, 1, 2, 9]))
    np.testing.assert_array_equal(read_label(layout, path), labels_of([2, 0, IGNORE, IGNORE]))


def test_without_ids_a_stored_value_is_the_class_index(root: Path) -> None:
    label = read_label(layout_at(root), root / "labels/train/b.png")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, labels_of([0, 1, 2, IGNORE]))


def test_a_value_outside_the_class_list_names_file_value_and_what_is_allowed(root: Path) -> None:
    path = save(root / "bad.png", labels_of([0, 3, 77, 0]))
    with pytest.raises(DataError) as caught:
        read_label(layout_at(root), path)
    for part in (str(path), "value 3, 77 at 16 of 32 pixels", "0..2, 255", "dataset.label_ids"):
        assert part in str(caught.value)


def test_a_palette_label_is_read_by_its_indices(root: Path) -> None:
    image = Image.fromarray(labels_of([0, 1, 2, 255])).convert("P")
    image.putdata(list(labels_of([0, 1, 2, 255]).ravel()))
    image.putpalette(bytes(range(256)) * 3)
    image.save(root / "palette.png")
    np.testing.assert_array_equal(read_label(layout_at(root), root / "palette.png"), labels_of([0, 1, 2, 255]))


def test_sixteen_bit_labels_are_read_and_large_values_named(root: Path) -> None:
    good = save(root / "wide.png", labels_of([0, 1, 2, 255]).astype(np.uint16))
    np.testing.assert_array_equal(read_label(layout_at(root), good), labels_of([0, 1, 2, 255]))
    bad = save(root / "wider.png", labels_of([0, 1, 2, 255]).astype(np.uint16) + 256)
    with pytest.raises(DataError, match="256, 257, 258, 511"):
        read_label(layout_at(root), bad)


def test_a_coloured_label_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"mode RGB.*not colours"):
        read_label(layout_at(root), save(root / "colours.png", picture(8, 4)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_cut_image_names_its_file(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"cut.{suffix}", picture(64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix} cannot be read"):
        read_image(path)


def test_a_cut_label_an_empty_file_and_a_missing_file_name_themselves(root: Path) -> None:
    cut = save(root / "cut.png", np.random.default_rng(0).integers(0, 3, (64, 64), dtype=np.uint8))
    cut.write_bytes(cut.read_bytes()[:-200])
    (root / "empty.png").write_bytes(b"")
    for path in (cut, root / "empty.png", root / "missing.png"):
        with pytest.raises(DataError, match=path.name):
            read_label(layout_at(root), path)
        with pytest.raises(DataError, match=path.name):
            read_image(path)


def test_grey_palette_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    rgb = picture(8, 4)
    for mode in ("L", "P", "RGBA", "LA"):
        Image.fromarray(rgb).convert(mode).save(tmp_path / f"{mode}.png")
        assert read_image(tmp_path / f"{mode}.png").shape == (8, 4, 3)
    Image.fromarray(rgb).quantize(8).save(tmp_path / "clear.png", transparency=bytes(range(8)))
    assert read_image(tmp_path / "clear.png").dtype == np.uint8


def test_sixteen_bit_images_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "deep.png", picture(8, 4)[..., 0].astype(np.uint16) * 100)
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits"):
        read_image(path)


def test_image_and_label_of_different_size_are_refused(root: Path) -> None:
    image, label = save(root / "i.png", picture(8, 6)), save(root / "l.png", labels_of([0, 1, 2, 0]))
    with pytest.raises(DataError, match=r"l\.png is 8x4, its image 8x6.*i\.png"):
        read_sample(layout_at(root), Sample("x", image, label), height=4, width=4)


def test_the_majority_votes_over_stored_values_and_not_over_classes(root: Path) -> None:
    layout = layout_at(root, label_ids={0: 0, 1: 255, 2: 255, 3: 255, 7: 1})
    image = save(root / "i.png", picture(2, 4))
    label = save(root / "l.png", np.array([[0, 1, 7, 7], [2, 3, 7, 0]], np.uint8))
    read = read_sample(layout, Sample("x", image, label), height=1, width=2, filters=Filters("box", "majority"))[1]
    assert read is not None
    assert read.tolist() == [[0, 1]]  # three ignored pixels of three values do not outvote class 0


def test_a_bad_value_that_no_vote_shows_is_refused_all_the_same(root: Path) -> None:
    image = save(root / "i.png", picture(2, 2))
    label = save(root / "l.png", np.array([[0, 0], [0, 77]], np.uint8))
    with pytest.raises(DataError, match=r"l\.png holds the value 77"):
        read_sample(layout_at(root), Sample("x", image, label), height=1, width=1, filters=Filters("box", "majority"))


def test_an_image_of_another_size_is_refused_where_nothing_is_resized(root: Path) -> None:
    image = save(root / "i.png", picture(8, 6))
    with pytest.raises(DataError, match=r"i\.png is 8x6, .* 4x6 .*--set evaluation\.protocol=resized"):
        read_sample(layout_at(root), Sample("x", image, None), height=4, width=6, filters=AS_STORED)


def test_the_size_of_an_image_is_read_from_its_header(root: Path) -> None:
    path = save(root / "i.png", picture(8, 6))
    path.write_bytes(path.read_bytes()[:60])
    assert image_size(path) == (8, 6)
    with pytest.raises(DataError, match="missing"):
        image_size(root / "missing.png")


@pytest.mark.parametrize("changes", [{"label_ids": {300: 0}}, {"label_ids": {0: 3}}, {"label_ids": {255: 0}}])
def test_label_ids_that_contradict_the_spec_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"mine: dataset\.(label_ids|ignore_value)"):
        layout_at(tmp_path, **changes)


def test_allowed_values_are_written_as_runs(tmp_path: Path) -> None:
    assert allowed_values(layout_at(tmp_path).label_table) == "0..2, 255"
    assert allowed_values(layout_at(tmp_path, label_ids={5: 0, 7: 1, 8: 2}, ignore_value=3).label_table) == "3, 5, 7..8"
