"""The command as a user meets it: outputs of finished tables, errors, exit codes. No Ray here."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.cli.common import Selection
from results.glance import Glances
from tests.orchestrator.conftest import small_table
from trainer.reading import read_result
from trainer.records import trial_path
from trainer.storage import Storage

ROOT = Path(__file__).parents[3]


def mixgrid(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from orchestrator.cli.app import main; main()", *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "PYTHONPATH": str(ROOT), **environment},
    )


def test_a_finished_table_is_not_trained_again(
    trained: str, table_file: str, places: dict[str, str], tmp_path: Path
) -> None:
    before = sorted(p.name for p in Path(trained, "trials").rglob("attempts/*"))
    ran = mixgrid("run", table_file, "--storage", trained, "--data", places["data"], "--cache", places["cache"])
    assert ran.returncode == 0, ran.stderr
    assert sorted(p.name for p in Path(trained, "trials").rglob("attempts/*")) == before
    for word in ("Supervised", "ComplexMix", "table.csv", "table.tex", "masks.png", "mlflow ui"):
        assert word in ran.stdout
    assert ran.stdout.rstrip().endswith("tables/small/report.html")


def test_csv_long_holds_the_records_numbers_to_all_digits(trained: str, table_file: str) -> None:
    out = mixgrid("table", table_file, "--storage", trained, "--format", "csv-long")
    rows = [row for row in csv.DictReader(io.StringIO(out.stdout)) if row["network"] == "student"]
    for row in rows:
        result = read_result(Storage(trained), row["trial_id"])
        assert result is not None
        last = [record for record in result.evaluations if record.network == "student"][-1]
        column = next(name for name in row if name.startswith("mean_iou"))
        assert float(row[column]) == last.mean_iou
    assert len(rows) == 2


def test_the_name_of_the_file_says_the_format(trained: str, table_file: str, tmp_path: Path) -> None:
    starts = {"a.csv": "row,policy", "a.tex": "% ", "a.md": "| Method", "a.html": "<!doctype html>", "a.txt": "Method "}
    for name, start in starts.items():
        told = mixgrid("table", table_file, "--storage", trained, "-o", str(tmp_path / name))
        assert (told.returncode, told.stdout) == (0, f"{tmp_path / name}\n"), told.stderr
        assert (tmp_path / name).read_text().startswith(start)


def test_a_table_can_stand_alone_in_latex_only(trained: str, table_file: str) -> None:
    told = mixgrid("table", table_file, "--storage", trained, "--format", "latex-plain", "--standalone")
    assert told.stdout.endswith("\\end{document}\n")
    refused = mixgrid("table", table_file, "--storage", trained, "--standalone")
    assert refused.returncode == 2
    assert "--format latex" in refused.stderr


def test_published_values_can_be_left_out(tmp_path: Path) -> None:
    words = ("table", "table1", "--storage", str(tmp_path), "--format", "markdown")
    assert "| *paper* | 53.88 ± 0.56 |" in mixgrid(*words).stdout
    assert "53.88" not in mixgrid(*words, "--no-published", "--no-differences").stdout


def test_status_is_readable_by_scripts(trained: str, table_file: str) -> None:
    status = json.loads(mixgrid("status", table_file, "--storage", trained, "--json").stdout)
    assert [item["state"] for item in status] == ["done", "done"]
    assert {item["num_steps"] for item in status} == {12}


def test_without_a_table_the_last_one_run_is_meant(trained: str, table_file: str) -> None:
    places = Storage(trained)
    Selection(table_file, None, "ComplexMix", None, None).remember(places)
    told = mixgrid("status", "--storage", trained).stdout
    assert "A small table" in told
    assert "1 cells" in told


def test_explain_says_where_a_number_comes_from(trained: str, table_file: str) -> None:
    told = mixgrid("explain", table_file, "ComplexMix@1/3", "--storage", trained).stdout
    for word in ("attempt", "code", "split", "mean IoU", "mixgrid train", "4 labelled and 8 unlabelled"):
        assert word in told


def test_a_cell_alone_is_one_of_the_last_run(trained: str, table_file: str) -> None:
    Selection(table_file, None, None, None, None).remember(Storage(trained))
    words = ("ComplexMix@1/3#0", "--storage", trained)
    assert mixgrid("explain", *words).stdout == mixgrid("explain", table_file, *words).stdout != ""
    assert mixgrid("logs", *words).stdout == mixgrid("logs", table_file, *words).stdout != ""


@pytest.mark.parametrize("command", ["explain", "logs"])
def test_a_table_without_a_cell_says_how_cells_are_named(command: str, trained: str, table_file: str) -> None:
    told = mixgrid(command, table_file, "--storage", trained)
    assert (told.returncode, "name a CELL, such as ComplexMix@1/4#0" in told.stderr) == (2, True)


def test_explain_of_an_unknown_cell_says_how_cells_are_named(trained: str, table_file: str) -> None:
    told = mixgrid("explain", table_file, "Nope@1/3", "--storage", trained)
    assert told.returncode == 2
    assert "Supervised@1/3#0" in told.stderr


def test_logs_print_every_attempt(trained: str, table_file: str) -> None:
    assert "## attempt" in mixgrid("logs", table_file, "Supervised@1/3", "--storage", trained).stdout


def test_the_preview_is_a_picture_of_every_mask(
    trained: str, table_file: str, places: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "masks.png"
    ran = mixgrid(
        "preview", "masks", table_file, "--storage", trained, "--data", places["data"], "--cache", places["cache"],
        "-o", str(out),
    )  # fmt: skip
    assert "predictions of ComplexMix" in ran.stdout, ran.stderr
    with Image.open(out) as picture:
        assert picture.size[0] > 4 * 64


def test_statistics_of_masks_are_a_table_a_csv_and_pictures(
    table_file: str, places: dict[str, str], tmp_path: Path
) -> None:
    words = ("preview", "masks", table_file, "--stats", "--num-images", "3", "--data", places["data"], "--cache",
             places["cache"], "--storage", str(tmp_path / "runs"))  # fmt: skip
    ran, again = mixgrid(*words), mixgrid(*words, "-o", str(tmp_path / "again.png"))
    assert ran.returncode == 0, ran.stderr
    for word in ("ComplexMix p=2", "edges per pixel", "n = 3 images", "true labels", "Not measured: ict"):
        assert word in ran.stdout
    folder = tmp_path / "runs/tables/small"
    assert again.returncode == 0, again.stderr
    for form in ("csv", "pdf", "png"):
        assert (folder / f"mask-statistics.{form}").read_bytes() == (tmp_path / f"again.{form}").read_bytes()


def test_train_gives_the_grids_numbers_and_leaves_a_glance_at_them(
    trained: str, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = small_table().cells()[1]
    spec = Storage(trained).locate(trial_path(cell.trial_id, "spec.json"))
    storage = str(tmp_path / "alone")
    ran = mixgrid("train", spec, "--storage", storage, "--data", places["data"], "--cache", places["cache"])
    assert ran.returncode == 0, ran.stderr
    alone, grid = read_result(Storage(storage), cell.trial_id), read_result(Storage(trained), cell.trial_id)
    assert alone is not None
    assert grid is not None
    assert alone.weights_sha256 == grid.weights_sha256
    assert [r.confusion for r in alone.evaluations] == [r.confusion for r in grid.evaluations]
    in_full = Glances(Storage(trained), tmp_path / "memory").look(cell.trial_id)
    monkeypatch.setattr("results.glance._read_in_full", pytest.fail)
    state, found = Glances(Storage(storage), tmp_path / "memory").look(cell.trial_id)
    assert state == in_full[0]
    assert found is not None
    assert found.attempts[0].ending == "finished"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan", "nope"), "known are ablation_blocks, camvid, demo, demo_methods, table1"),
        (("plan", "demo", "--set", "num_step=3"), "near it are num_steps"),
        (("plan", "demo", "--fractions", "1/7.5"), "1/7.5"),
        (("plan", "demo", "--seeds", "4-0"), "--seeds"),
        (("run", "demo", "--workers", "2", "--gpus-per-worker", "0.5"), "one worker only"),
        (("run", "demo", "--workers", "3"), "--workers 3 does not divide labeled_batch 4"),
        (("run", "demo", "--max-gpu-hours", "0"), "--max-gpu-hours 0.0: give hours above 0"),
        (("run", "demo", "--max-concurrent", "0"), "--max-concurrent 0: give 1 or more"),
        (("run", "demo", "--wait-for-nodes", "--device", "cpu"), "give the --address of a cluster"),
        (("run", "demo", "--wait-for-nodes", "--address", "head:1"), "say --device cuda, --device cpu or --gpus-per-"),
        (("plan", "demo", "--devices", "1,x"), "--devices 1,x: give numbers from 1 to 100000, such as 1,8"),
        (("plan", "demo", "--devices", "1", "--workers", "2"), "a trial takes 2 (--workers)"),
        (("preview", "masks", "demo", "--stats", "-o", "masks.csv"), "give the name of a .png"),
        (("train", "/nowhere/spec.json"), "cannot read the spec"),
        (("data", "check", "camvid", "--data", "/nowhere"), "/nowhere/camvid/train does not exist"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    ran = mixgrid(*words, MIXGRID_STORAGE=str(tmp_path / "runs"))
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


def test_plan_tells_cells_forecast_and_findings_by_kind(tmp_path: Path) -> None:
    told = mixgrid("plan", "table1", "--storage", str(tmp_path), "--data", str(tmp_path), COLUMNS="100")
    assert told.returncode == 0, told.stderr
    for word in ("145 cells", "optional rows", "forecast, an estimate", "5.0e19", "186 (139 – 232)", "Assumed rate"):
        assert word in told.stdout
    assert "finished after 186 (139 – 232) h on 1 device\nfinished after 24 (18 – 30) h on 8 devices" in told.stdout
    headings = ["sharing a device", "the frame", "labelled images", "initial weights", "memory and disk, estimated"]
    assert [line for line in told.stdout.splitlines() if line in headings] == headings
    assert max(map(len, told.stdout.splitlines())) <= 100


def test_an_optional_row_is_planned_where_it_is_named(tmp_path: Path) -> None:
    told = mixgrid("plan", "table1", "--rows", "ict,cowmix", "--storage", str(tmp_path)).stdout
    assert "40 cells" in told
    assert "optional rows" not in told


def test_a_narrow_terminal_cuts_off_no_mark_and_no_digit(tmp_path: Path) -> None:
    told = mixgrid("table", "table1_as_published", "--storage", str(tmp_path), COLUMNS="100").stdout
    for word in ("DST-CBC [best]", "[teacher]", "– (0/5 m)", "66.77 ± 0.83", "66.19"):
        assert word in told
    assert "…" not in told


def test_debug_shows_the_trace(tmp_path: Path) -> None:
    assert "Traceback" in mixgrid("--debug", "plan", "nope", "--storage", str(tmp_path)).stderr


def test_data_check_lists_every_bad_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = mixgrid("data", "synthesize", "--data", str(data), "--num-train", "3", "--num-eval", "2", "--height", "32",
                   "--width", "64")  # fmt: skip
    images = sorted(Path(made.stdout.strip()).rglob("train/**/*_leftImg8bit.png"))
    for path in images[:2]:
        path.write_bytes(path.read_bytes()[:100])
    words = ("--set", "dataset.num_train=3", "--set", "dataset.num_eval=2", "--set", "dataset.scene_height=32")
    checked = mixgrid("data", "check", "demo", "--data", str(data), *words, "--set", "dataset.scene_width=64")
    assert checked.returncode == 1
    assert all(path.name in checked.stdout for path in images[:2])
    assert "2 bad files" in checked.stdout
