"""`mixgrid preview` as a user meets it: of a table, a cell, a trial, a folder of images, a batch."""

from pathlib import Path

import pytest
from PIL import Image

from tests.orchestrator.cli.test_commands import mixgrid
from tests.orchestrator.conftest import small_table

COMPLEXMIX = small_table().cells()[1]


@pytest.fixture
def options(trained: str, places: dict[str, str], tmp_path: Path) -> list[str]:
    words = {"storage": trained, **places}
    return [word for name, value in words.items() for word in (f"--{name}", value)] + ["-o", str(tmp_path / "x.png")]


def test_predictions_of_a_table_come_with_their_notes(table_file: str, options: list[str], tmp_path: Path) -> None:
    ran = mixgrid("preview", "predictions", table_file, *options, "--num-images", "2")
    assert ran.returncode == 0, ran.stderr
    for word in (f"{tmp_path}/x.png", "2 of 2 rows are done", "Images, spread evenly", "Errors are yellow"):
        assert word in ran.stdout
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.size == (2 * 262 + 6, 6 * 150 + 6)


@pytest.mark.parametrize("named", ["cell", "id", "folder"])
def test_predictions_of_one_trial(named: str, trained: str, table_file: str, options: list[str]) -> None:
    trial_id = COMPLEXMIX.trial_id
    words = {"cell": [table_file, "ComplexMix@1/3"], "id": [trial_id], "folder": [f"{trained}/trials/{trial_id}"]}
    ran = mixgrid("preview", "predictions", *words[named], *options, "--network", "teacher")
    assert f"({trial_id}, teacher after step 12, judged by resized)" in ran.stdout, ran.stderr


def test_predictions_of_a_folder_of_images(options: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (70, 50)).save(tmp_path / "one.png")
    ran = mixgrid("preview", "predictions", COMPLEXMIX.trial_id, *options, "--images", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.size == (4 * 70 + 12, 3 * (4 * 50 + 22) + 6)


def test_images_of_ones_own_want_one_trial(table_file: str, options: list[str]) -> None:
    ran = mixgrid("preview", "predictions", table_file, *options, "--images", ".")
    assert ran.returncode == 2
    assert "give CELL, or a trial's folder or id as TABLE" in ran.stderr


def test_a_batch_of_a_chosen_cell(table_file: str, options: list[str], tmp_path: Path) -> None:
    ran = mixgrid("preview", "batch", table_file, *options, "--rows", "ComplexMix", "--step", "4")
    assert ran.stdout == f"{tmp_path}/x.png (step 4 of ComplexMix@1/3#0)\n", ran.stderr
    refused = mixgrid("preview", "batch", table_file, *options, "--step", "12")
    assert refused.returncode == 2
    assert "trains steps 0 to 11" in refused.stderr
