"""The report as a user meets it: one folder with all of it, the same each time, and never the end of a run."""

import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli import reporting, running
from orchestrator.cli.common import Chosen, Places, Selection
from orchestrator.resources import Placement
from tests.orchestrator.cli.test_commands import mixgrid
from tests.orchestrator.conftest import small_table
from trainer.spec import RunOptions
from trainer.storage import Storage

PLOTS = ("miou-by-fraction", "learning-curves", "confidence-and-masks", "class-iou")


def report(trained: str, table_file: str, places: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    given = ("--storage", trained, "--data", places["data"], "--cache", places["cache"])
    return mixgrid("report", table_file, *given, *words)


@pytest.fixture
def drawn(trained: str, table_file: str, places: dict[str, str], tmp_path: Path) -> Path:
    """The folder of a report without pictures."""
    ran = report(trained, table_file, places, "-o", str(tmp_path / "out"), "--no-gallery")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(tmp_path / "out" / "report.html")
    return tmp_path / "out"


def test_a_folder_holds_page_plots_and_table_files(drawn: Path) -> None:
    names = {path.relative_to(drawn).as_posix() for path in drawn.rglob("*") if path.is_file()}
    assert names >= {"report.html", "table.csv", "table-long.csv", "table.tex", "table.md", "statistics.csv"}
    assert names >= {f"plots/{name}.{form}" for name in PLOTS for form in ("pdf", "png")}
    page = (drawn / "report.html").read_text()
    assert all(f'href="{name}"' in page for name in names - {"report.html"})


def test_the_page_says_what_was_run_and_how_to_run_it_again(drawn: Path) -> None:
    page = (drawn / "report.html").read_text()
    for cell in small_table().cells():
        assert cell.trial_id in page
    for word in ("mixgrid run", "mixgrid train", "CPU-thread-hours", "A small table", "The gallery was not asked for"):
        assert word in page, word
    assert "data:image/png" not in page
    assert "no part of the table" not in page


def test_the_compute_statement_counts_what_else_was_trained_there(
    trained: str, table_file: str, places: dict[str, str], tmp_path: Path
) -> None:
    ran = report(trained, table_file, places, "-o", str(tmp_path), "--no-gallery", "--rows", "Supervised")
    assert ran.returncode == 0, ran.stderr
    assert (
        "Runs on the same storage that are no part of the table took another" in (tmp_path / "report.html").read_text()
    )


def test_the_gallery_shows_images_predictions_and_mixes(
    trained: str, table_file: str, places: dict[str, str], tmp_path: Path
) -> None:
    ran = report(trained, table_file, places, "-o", str(tmp_path), "--num-images", "2")
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "report.html").read_text()
    # two images with truth, prediction and error of two rows on each; mask and mix of the one that mixes
    assert page.count("data:image/png;base64") == 2 * 2 + 2 * 2 * 2 + 2
    assert "where the prediction errs by ComplexMix" in page


def test_the_same_records_give_the_same_bytes(
    trained: str, table_file: str, places: dict[str, str], tmp_path: Path
) -> None:
    contents = []
    for name in ("one", "two"):
        report(trained, table_file, places, "-o", str(tmp_path / name), "--num-images", "1")
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) > 10


def test_without_data_the_page_says_why_there_are_no_pictures(trained: str, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.py"
    file.write_text(
        "from dataclasses import replace\nfrom tests.orchestrator.conftest import small_table\n"
        "from trainer.spec import CamVid\nFRAME = small_table().frame.model_copy(update={'dataset': CamVid()})\n"
        "SMALL = replace(small_table(), frame=FRAME)\n"
    )
    ran = mixgrid("report", str(file), "--storage", str(tmp_path / "runs"), "-o", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No pictures are shown." in page
    assert "Not drawn: Supervised, ComplexMix" in page
    assert "not started yet" in page


def test_a_file_is_no_place_for_a_report(trained: str, table_file: str, places: dict[str, str]) -> None:
    ran = report(trained, table_file, places, "-o", table_file)
    assert ran.returncode == 2
    assert "give the folder" in ran.stderr


def request_for(trained: str, table_file: str, places: dict[str, str]) -> running.Request:
    chosen = Chosen(Selection(table_file, None, None, None, None), Storage(trained))
    options = RunOptions(storage=trained, **places)
    return running.Request(chosen, chosen.table, options, Placement(1, 1, None), None, None, False, False)


def test_a_report_that_cannot_be_drawn_is_a_note_and_no_failure(
    trained: str, table_file: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: object, **_options: object) -> Path:
        raise RuntimeError("no font [anywhere]")

    monkeypatch.setattr(reporting, "write_report", fail)
    console = Console(record=True, width=200)
    running.say_report(request_for(trained, table_file, places), Storage(trained), console)
    assert "the report was not drawn (RuntimeError: no font [anywhere])" in console.export_text()


def test_a_trial_that_nobody_trained_has_an_origin_too(table_file: str, tmp_path: Path) -> None:
    chosen = Chosen(Selection(table_file, None, None, None, None), Storage(str(tmp_path / "runs")))
    page = reporting.write_report(chosen, Places(str(tmp_path / "data")), tmp_path / "out", num_images=0).read_text()
    for cell in small_table().cells():
        assert cell.trial_id in page
