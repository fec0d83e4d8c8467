"""Sheets of batches and predictions: what is on them, pixel by pixel where it matters."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import orchestrator.previewing as previewing
from orchestrator.previewing import batch_png, folder_sheet, table_sheet, trained_network, trial_sheet
from tests.orchestrator.conftest import small_table
from trainer.data.folders import DataError
from trainer.drawing import Panel
from trainer.storage import Storage
from trainer.trained import load_kept

TABLE = small_table()
SUPERVISED, COMPLEXMIX = TABLE.cells()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[Panel]]:
    """The panels of the sheet that is drawn next."""
    rows: list[list[Panel]] = []
    monkeypatch.setattr(previewing, "sheet_of", lambda given: rows.extend(given) or b"")
    return rows


def titles(rows: list[list[Panel]]) -> list[list[str]]:
    return [[title.partition(":")[0] for title, _ in row] for row in rows]


def test_a_batch_shows_every_stream_and_labels_where_they_count(
    places: dict[str, str], drawn: list[list[Panel]]
) -> None:
    batch_png(COMPLEXMIX, data=Path(places["data"]), cache=places["cache"], step=5)
    assert titles(drawn) == [
        ["labeled 0", "labeled 1"],
        ["label of labeled 0", "label of labeled 1"],
        ["unlabeled 0", "unlabeled 1"],
    ]


def test_a_batch_of_the_supervised_start_has_labelled_images_alone(
    places: dict[str, str], drawn: list[list[Panel]]
) -> None:
    batch_png(COMPLEXMIX, data=Path(places["data"]), cache=places["cache"], step=2)
    assert [row[0][0] for row in drawn] == ["labeled 0", "label of labeled 0"]


def test_a_batch_is_drawn_as_the_view_cuts_it(places: dict[str, str], drawn: list[list[Panel]]) -> None:
    cropped = TABLE.changed(["view.crop_height=24", "view.crop_width=40"]).cells()[1]
    for cell in (COMPLEXMIX, cropped):
        batch_png(cell, data=Path(places["data"]), cache=places["cache"], step=5)
    (_, whole), (_, part) = drawn[0][0], drawn[3][0]
    assert (whole.shape, part.shape) == ((32, 64, 3), (24, 40, 3))
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)[:, :, 0]
    assert (windows == part).all(axis=(2, 3, 4)).any()


def test_many_images_go_on_in_the_next_row(places: dict[str, str], drawn: list[list[Panel]]) -> None:
    many = TABLE.changed(["unlabeled_batch=10", "dataset.num_train=24"]).cells()[1]
    batch_png(many, data=Path(places["data"]), cache=places["cache"], step=5)
    assert [len(row) for row in drawn] == [2, 2, 8, 2]


def test_a_tables_sheet_has_images_in_columns_and_two_lines_a_row(
    trained: str, places: dict[str, str], drawn: list[list[Panel]]
) -> None:
    _, notes = table_sheet(TABLE, Storage(trained), data=Path(places["data"]), cache=places["cache"], num_images=3)
    assert [row[0] for row in titles(drawn)][1:] == ["truth", *["Supervised"] * 2, *["ComplexMix"] * 2]
    assert {len(row) for row in drawn} == {3}
    assert "1/3" in notes[0]


def test_a_table_without_data_says_why_there_is_no_sheet(tmp_path: Path) -> None:
    table = TABLE.changed(["dataset.kind=camvid"])
    with pytest.raises(ValueError, match="camvid: the folder"):
        table_sheet(table, Storage(str(tmp_path)), data=tmp_path, cache=str(tmp_path), num_images=3)


def test_a_trials_sheet_shows_the_network_that_is_asked_for(
    trained: str, places: dict[str, str], drawn: list[list[Panel]]
) -> None:
    found = load_kept(Storage(trained), COMPLEXMIX.trial_id)
    for network in ("student", "teacher"):
        trial_sheet(found, network, data=Path(places["data"]), cache=places["cache"], num_images=4)
    assert [row[0] for row in titles(drawn)][1:4] == ["truth", "student", "student"]
    assert [row[0] for row in titles(drawn)][5:] == ["truth", "teacher", "teacher"]
    student, teacher = drawn[2], drawn[6]
    assert any(not np.array_equal(one[1], two[1]) for one, two in zip(student, teacher, strict=True))


def test_a_folders_sheet_shows_images_of_any_size_spread_over_it(
    trained: str, tmp_path: Path, drawn: list[list[Panel]]
) -> None:
    for number in range(6):
        Image.new("RGB", (30 + number, 20 + number), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
    folder_sheet(load_kept(Storage(trained), SUPERVISED.trial_id), "student", tmp_path, num_images=3)
    assert titles(drawn) == [["1", "3", "5"], ["student"] * 3, ["both"] * 3]
    assert [picture.shape for _, picture in drawn[1]] == [(21, 31, 3), (23, 33, 3), (25, 35, 3)]
    with pytest.raises(DataError, match="none does not exist: it should hold images"):
        folder_sheet(load_kept(Storage(trained), SUPERVISED.trial_id), "student", tmp_path / "none", num_images=3)


def test_a_sheet_is_a_png(trained: str, places: dict[str, str]) -> None:
    found = load_kept(Storage(trained), SUPERVISED.trial_id)
    content = trial_sheet(found, "student", data=Path(places["data"]), cache=places["cache"], num_images=2)
    with Image.open(io.BytesIO(content)) as sheet:
        assert sheet.size == (2 * (256 + 6) + 6, 4 * (128 + 16 + 6) + 6)


def test_masks_are_drawn_on_what_the_last_finished_trial_sees(trained: str) -> None:
    name, _ = trained_network(TABLE, Storage(trained))
    assert name == "predictions of ComplexMix@1/3#0"
