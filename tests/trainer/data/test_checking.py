"""Looking at every file before anything is trained on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.trainer.data.conftest import NAMES, picture, save
from trainer.data.checking import check
from trainer.data.cityscapes import cityscapes_layout


def test_check_names_every_bad_file_and_goes_on(cityscapes: Callable[..., Path]) -> None:
    root = cityscapes(unlabeled=NAMES[1:2])
    image = root / f"leftImg8bit/train/{NAMES[0]}_leftImg8bit.png"
    image.write_bytes(b"")
    bad_value = save(root / f"gtFine/train/{NAMES[0]}_gtFine_labelIds.png", np.full((16, 32), 99, np.uint8))
    bad_size = save(root / f"gtFine/train/{NAMES[2]}_gtFine_labelIds.png", np.full((16, 30), 7, np.uint8))
    found = check(cityscapes_layout(root), "train")
    assert [file for file, _ in found] == [image, bad_value, bad_size]
    assert all(str(file) in message for file, message in found)


def test_check_finds_nothing_in_good_files(cityscapes: Callable[..., Path]) -> None:
    calls = list[tuple[int, int]]()
    assert check(cityscapes_layout(cityscapes()), "train", progress=lambda *call: calls.append(call)) == []
    assert calls[-1] == (3, 3)


def test_images_of_other_sizes_are_bad_only_where_one_size_is_wanted(cityscapes: Callable[..., Path]) -> None:
    root = cityscapes(unlabeled=NAMES[1:])
    image = save(root / f"leftImg8bit/train/{NAMES[1]}_leftImg8bit.png", picture(16, 30))
    assert check(cityscapes_layout(root), "train") == []
    (found,) = check(cityscapes_layout(root), "train", wants_one_size=True)
    assert found[0] == image
    assert "is 16x30, the first image of its split 16x32" in found[1]


def test_a_first_image_without_a_size_is_listed_like_any_other(cityscapes: Callable[..., Path]) -> None:
    root = cityscapes()
    image = root / f"leftImg8bit/train/{NAMES[0]}_leftImg8bit.png"
    image.write_bytes(b"")
    assert [file for file, _ in check(cityscapes_layout(root), "train", wants_one_size=True)] == [image]
