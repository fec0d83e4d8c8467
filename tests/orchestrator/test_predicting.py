"""A folder of images becomes label maps, overlays and ids: names, sizes, values, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.predicting import find_images, predict_folder, refuse_place_inside, server_name
from tests.trainer.data.test_cityscapes import TRAINED_IDS
from trainer.data.cityscapes import CLASS_NAMES, CLASSES
from trainer.data.folders import DataError
from trainer.spec import CamVid, Cityscapes, TrialSpec
from trainer.trained import Trained

NAMES = ("aachen/aachen_000000_000019_leftImg8bit", "bonn_000001_000019", "odd")


class ByRed:
    """Every pixel is of the class that its red says; two images at once."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, ...]]] = []

    def at_once(self, height: int, width: int) -> int:
        return 2

    def __call__(self, images: list[np.ndarray]) -> list[np.ndarray]:
        self.batches.append([image.shape[:2] for image in images])
        return [image[..., 0] for image in images]


def save(path: Path, reds: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*np.shape(reds), 3), np.uint8)
    pixels[..., 0] = reds
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of two sizes with a class in each pixel."""
    save(tmp_path / "images" / f"{NAMES[0]}.png", [[*range(19)]])
    save(tmp_path / "images" / f"{NAMES[1]}.png", [[0] * 19])
    save(tmp_path / "images" / f"{NAMES[2]}.png", [[18, 0], [1, 2]])
    (tmp_path / "images/.hidden.png").write_bytes(b"")
    (tmp_path / "images/notes.txt").write_text("")
    return tmp_path / "images"


def trained_for(dataset: object = Cityscapes(), class_names: tuple[str, ...] = CLASS_NAMES) -> Trained:
    return Trained(TrialSpec(dataset=dataset), class_names, 1, {})


def read(path: Path) -> list[list[int]]:
    with Image.open(path) as file:
        assert file.mode == "L"
        return np.asarray(file).tolist()


def predict(folder: Path, out: Path, ids: str = "train", **words: object) -> tuple[object, ByRed, list[int]]:
    predictor, steps = ByRed(), []
    written = predict_folder(
        predictor, trained_for(**words), find_images(folder), out, ids=ids, progress=lambda: steps.append(1)
    )
    return written, predictor, steps


def test_every_image_has_a_label_map_of_its_own_size_and_name(folder: Path, tmp_path: Path) -> None:
    written, _, steps = predict(folder, tmp_path / "out")
    assert read(tmp_path / "out/labels" / f"{NAMES[0]}.png") == [[*range(19)]]
    assert read(tmp_path / "out/labels" / f"{NAMES[2]}.png") == [[18, 0], [1, 2]]
    assert (written.num_images, written.problems, len(steps)) == (3, (), 3)
    assert not (tmp_path / "out/cityscapes").exists()


def test_neighbours_of_one_size_go_together(folder: Path, tmp_path: Path) -> None:
    save(folder / "aachen/b.png", [[0] * 19])
    assert predict(folder, tmp_path / "out")[1].batches == [[(1, 19), (1, 19)], [(1, 19)], [(2, 2)]]


def test_an_overlay_is_half_of_the_classes_colour(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path / "out")
    drawn = np.asarray(Image.open(tmp_path / "out/overlays/odd.png"))
    red, green, blue = CLASSES["bicycle"][1]
    assert drawn[0, 0].tolist() == [(18 + red + 1) // 2, (green + 1) // 2, (blue + 1) // 2]


def test_server_ids_are_the_published_ones_alone_in_their_folder(folder: Path, tmp_path: Path) -> None:
    written, *_ = predict(folder, tmp_path / "out", "cityscapes")
    place = tmp_path / "out/cityscapes"
    assert read(place / "aachen/aachen_000000_000019_pred.png") == [TRAINED_IDS]
    assert read(place / "odd_pred.png") == [[33, 7], [8, 11]]
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.png"))
    assert names == ["aachen/aachen_000000_000019_pred.png", "bonn_000001_000019_pred.png", "odd_pred.png"]
    assert written.num_unlike_the_server == 1


def test_the_legend_says_what_is_what(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path / "out", "cityscapes")
    rows = list(csv.DictReader((tmp_path / "out/classes.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == list(CLASS_NAMES)
    assert [int(row["cityscapes_id"]) for row in rows] == TRAINED_IDS
    car = {"id": "13", "name": "car", "red": "0", "green": "0", "blue": "142", "cityscapes_id": "26"}
    assert rows[13] == car


def test_ids_of_classes_that_cityscapes_does_not_have_are_refused_before_anything_is_written(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no Cityscapes class is called pavement"):
        predict(folder, tmp_path / "out", "cityscapes", dataset=CamVid(), class_names=("sky", "pavement"))
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_predicted(folder: Path, tmp_path: Path) -> None:
    path = folder / "bonn_000001_000019.png"
    path.write_bytes(path.read_bytes()[:40])
    written, _, steps = predict(folder, tmp_path / "out")
    assert (written.num_images, len(written.problems), len(steps)) == (2, 1, 3)
    assert str(path) in written.problems[0]
    assert (tmp_path / "out/labels/odd.png").exists()


def test_folders_without_images_and_images_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no image with one of the endings \.png, \.jpg"):
        find_images(tmp_path / "empty")
    with pytest.raises(DataError, match="nowhere does not exist"):
        find_images(tmp_path / "nowhere")
    save(folder / "odd.jpg", [[0]])
    with pytest.raises(DataError, match=r"odd\.jpg and .*odd\.png would have one prediction"):
        find_images(folder)


@pytest.mark.parametrize(("out", "is_inside"), [("images", True), ("images/out", True), ("out", False)])
def test_predictions_are_not_written_among_the_images(out: str, is_inside: bool, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path)
    if not is_inside:
        refuse_place_inside(tmp_path / out, folder)
        return
    for place in (tmp_path / out, tmp_path / "out" / out):
        with pytest.raises(DataError, match="choose a folder outside of it"):
            refuse_place_inside(place, folder)


def test_the_servers_name_keeps_the_folder_and_loses_the_ending() -> None:
    assert server_name("test/berlin/berlin_000000_000019_leftImg8bit") == "test/berlin/berlin_000000_000019_pred.png"
