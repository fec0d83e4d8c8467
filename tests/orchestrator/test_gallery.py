"""Pictures of a finished table: what is drawn, of which trial, and what is said where something is missing."""

import io
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.table import Row, Table
from orchestrator.gallery import Gallery, draw_gallery, first_trained, most_complete_fraction, network_of
from tests.orchestrator.conftest import small_table
from trainer.data.catalog import open_layout, palette_of
from trainer.data.folders import read_sample
from trainer.drawing import WRONG
from trainer.reading import read_result
from trainer.records import trial_path
from trainer.spec import CowMask, Mix
from trainer.storage import Storage
from trainer.trained import load_kept

TABLE = small_table()
SUPERVISED, COMPLEXMIX = TABLE.cells()


@pytest.fixture
def storage(trained: str, tmp_path: Path) -> Storage:
    shutil.copytree(trained, tmp_path / "runs")
    return Storage(str(tmp_path / "runs"))


def draw(storage: Storage, places: dict[str, str], table: Table = TABLE, num_images: int = 4) -> Gallery:
    return draw_gallery(table, storage, data=Path(places["data"]), cache=places["cache"], num_images=num_images)


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_every_row_has_a_prediction_and_errors_of_every_image_and_mixing_rows_their_mix(
    storage: Storage, places: dict[str, str]
) -> None:
    gallery = draw(storage, places)
    counts = Counter((picture.row, picture.kind) for picture in gallery.pictures)
    once = dict.fromkeys([("ComplexMix", "mask"), ("ComplexMix", "mix")], 1)
    rows = {(row, kind): 4 for row in ("Supervised", "ComplexMix") for kind in ("prediction", "error")}
    assert counts == {("", "image"): 4, ("", "truth"): 4, **rows, **once}
    assert gallery.notes[0] == "Pictures are of label fraction 1/3, where 2 of 2 rows are done."


def test_pictures_are_small_and_of_few_colours(storage: Storage, places: dict[str, str]) -> None:
    for picture in draw(storage, places).pictures:
        with Image.open(io.BytesIO(picture.png)) as file:
            assert file.size == (64, 32)
            assert file.mode == "P"


def test_image_and_truth_are_those_of_the_name(storage: Storage, places: dict[str, str]) -> None:
    layout = open_layout(TABLE.frame.dataset, Path(places["data"]))
    samples = {sample.name: sample for sample in layout.samples("val")}
    top = [picture for picture in draw(storage, places, num_images=2).pictures if not picture.row]
    assert [picture.image_name for picture in top[::2]] == [sorted(samples)[1], sorted(samples)[3]]
    for picture in top:
        image, label = read_sample(layout, samples[picture.image_name], height=32, width=64)
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(layout.palette)] = layout.palette
        if picture.kind == "truth":
            assert np.array_equal(pixels_of(picture.png), palette[label])
        else:
            assert np.abs(pixels_of(picture.png).astype(int) - image).mean() < 4


def test_the_errors_of_all_images_are_those_of_the_result(storage: Storage, places: dict[str, str]) -> None:
    result = read_result(storage, COMPLEXMIX.trial_id)
    last = [record for record in result.evaluations if record.network == "student"][-1]
    confusion = np.array(last.confusion)
    drawn = [each for each in draw(storage, places).pictures if (each.row, each.kind) == ("ComplexMix", "error")]
    wrong = sum(int((pixels_of(each.png) == WRONG).all(axis=2).sum()) for each in drawn)
    assert wrong == confusion.sum() - confusion.trace()


def test_a_prediction_has_the_datasets_colours(storage: Storage, places: dict[str, str]) -> None:
    colours = {tuple(colour) for colour in palette_of(TABLE.frame.dataset).tolist()}
    for picture in draw(storage, places).pictures:
        if picture.kind == "prediction":
            assert {tuple(pixel) for pixel in pixels_of(picture.png).reshape(-1, 3).tolist()} <= colours


def test_a_row_without_weights_is_said_and_its_mix_is_drawn_by_labels(storage: Storage, places: dict[str, str]) -> None:
    storage.write(trial_path(COMPLEXMIX.trial_id, "weights.pt"), b"other")
    gallery = draw(storage, places)
    kinds = {(picture.row, picture.kind) for picture in gallery.pictures if picture.row}
    assert kinds == {
        ("Supervised", "prediction"),
        ("Supervised", "error"),
        ("ComplexMix", "mask"),
        ("ComplexMix", "mix"),
    }
    assert any("ComplexMix@1/3#0 is not shown: " in note and "digest differs" in note for note in gallery.notes)


def test_a_table_without_data_has_no_pictures_and_one_reason(storage: Storage, tmp_path: Path) -> None:
    table = TABLE.changed(["dataset.kind=camvid"])
    gallery = draw_gallery(table, storage, data=tmp_path, cache=str(tmp_path / "cache"))
    assert gallery.pictures == ()
    (reason,) = [note for note in gallery.notes if note.startswith("Not drawn")]
    assert reason.startswith("Not drawn: Supervised, ComplexMix: camvid: the folder")


def test_an_untrained_table_shows_images_truth_and_mixes(places: dict[str, str], tmp_path: Path) -> None:
    gallery = draw(Storage(str(tmp_path / "none")), places)
    assert {picture.kind for picture in gallery.pictures} == {"image", "truth", "mask", "mix"}
    assert gallery.notes[0].endswith("where 0 of 2 rows are done.")
    assert sum("is not shown" in note for note in gallery.notes) == 2


def test_the_fraction_with_most_rows_done_is_drawn_and_the_smallest_of_equals(storage: Storage) -> None:
    wide = replace(TABLE, fractions=(Fraction(1, 2), Fraction(1, 3), Fraction(1, 4)))
    assert most_complete_fraction(wide, storage)[0] == Fraction(1, 3)
    storage.remove("trials")
    assert most_complete_fraction(wide, storage)[0] == Fraction(1, 4)


def test_the_first_seed_that_can_be_shown_is(storage: Storage) -> None:
    cells = replace(TABLE, seeds=(7, 0)).selected("ComplexMix").cells()
    cell, trained, reason = first_trained(cells, storage)
    assert (cell.seed, trained.spec) == (0, cells[1].spec)
    assert "ComplexMix@1/3#7 is not shown: " in reason


def test_the_reported_network_is_drawn_and_the_student_where_there_is_no_teacher(storage: Storage) -> None:
    table = replace(TABLE, frame=TABLE.frame.model_copy(update={"reported_network": "teacher"}))
    trained = {cell.row: load_kept(storage, cell.trial_id) for cell in TABLE.cells()}
    found = {row.label: network_of(table, row, trained[row.label]) for row in table.rows}
    assert found == {"Supervised": "student", "ComplexMix": "teacher"}
    own = Row("ComplexMix", Mix(), reported_network="student")
    assert network_of(table, own, trained["ComplexMix"]) == "student"


def test_every_kind_of_mask_is_drawn(places: dict[str, str], tmp_path: Path) -> None:
    table = replace(TABLE, rows=(*TABLE.rows, Row("CowMix", Mix(mask=CowMask(sigma_min=1.0, sigma_max=4.0)))))
    gallery = draw(Storage(str(tmp_path / "none")), places, table)
    assert {picture.row for picture in gallery.pictures if picture.kind == "mask"} == {"ComplexMix", "CowMix"}
