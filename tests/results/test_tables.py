"""The door to the formats: byte for byte from fixed records, and the same wherever the storage lies."""

import csv
import os
from pathlib import Path

import pytest

from results.aggregate import Selection
from results.compute import compute_table
from results.tables import FORMATS, SUFFIXES, Layout, format_table, write_table
from tests.results.builders import EIGHTH, RowStub, TableStub, read
from tests.results.holes import TABLE, compute_holes, fill
from trainer.storage import Storage

GOLDEN = Path(__file__).parents[1] / "golden" / "tables"
ENDINGS = {
    "csv": "wide.csv",
    "csv-long": "long.csv",
    "html": "table.html",
    "latex": "table.tex",
    "latex-plain": "table-plain.tex",
    "markdown": "table.md",
}


def golden(text: str, path: Path) -> bytes:
    """The golden file, renewed where that is asked for."""
    if os.environ.get("MIXGRID_RENEW_GOLDEN"):
        write_table(text, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_145_records_give_the_golden_tables_byte_for_byte(whole, name):
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/results/test_tables.py -k golden"""
    text = format_table(whole, name)
    assert text.encode() == golden(text, GOLDEN / "table1" / ENDINGS[name])


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_with_holes_gives_the_golden_tables_byte_for_byte(holes, name):
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/results/test_tables.py -k golden"""
    text = format_table(holes, name)
    assert text.encode() == golden(text, GOLDEN / "holes" / ENDINGS[name])


@pytest.mark.parametrize("name", FORMATS)
def test_another_storage_with_the_same_records_gives_the_same_bytes(holes, name, tmp_path):
    storage = Storage(str(tmp_path / "elsewhere"))
    fill(storage)
    assert format_table(compute_holes(storage), name) == format_table(holes, name)


def test_the_145_checked_in_records_are_accepted(whole):
    assert whole.trials["state"].tolist() == ["done"] * 145
    assert whole.trials["detail"].tolist() == [""] * 145
    assert whole.warnings == ()


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_of_which_nothing_was_run_can_be_printed(name, tmp_path):
    frames = read(Storage(str(tmp_path)), TABLE)
    assert "ComplexMix" in format_table(compute_table(frames, TABLE, Selection()), name)


def test_every_format_tells_the_states_of_cells_apart(holes):
    """ClassMix at 1/4 lacks an undefined seed, ComplexMix a failed and a missing one; ClassMix at 1/8 is stale."""
    marked = {
        "latex": (r"(2/3)\textsuperscript{u}", r"(1/3)\textsuperscript{m,f}", r"{\textsuperscript{s}}"),
        "latex-plain": (r"(2/3)\textsuperscript{u}", r"(1/3)\textsuperscript{m,f}", r"0.78\textsuperscript{s}"),
        "markdown": ("(2/3 u)", "(1/3 m,f)", "(s)", "(0/3 m,p)", "(0/3 m,r)"),
        "html": ("state-undefined", "state-missing state-failed", '"stale"', "state-partial", "state-running"),
        "csv": ("undefined 1", "failed 1; missing 2", '"0, 2"', "missing 0; partial 1, 2", "missing 1, 2; running 0"),
        "csv-long": (",failed,", ",missing,", ",partial,", ",running,", ",done,code changed: trainer/losses.py,"),
    }
    assert set(marked) == set(FORMATS)
    for name, signs in marked.items():
        text = format_table(holes, name)
        assert [sign for sign in signs if sign not in text] == []


@pytest.mark.parametrize("name", ["latex", "latex-plain", "markdown", "html"])
def test_a_damaged_result_is_named_in_every_format_for_people(holes, name):
    assert "result not accepted" in format_table(holes, name)


def test_an_unknown_format_names_the_known_ones(holes):
    with pytest.raises(ValueError, match="csv, csv-long, html, latex, latex-plain, markdown"):
        format_table(holes, "excel")


def test_only_latex_can_be_asked_to_stand_alone(holes):
    assert r"\end{document}" in format_table(holes, "latex-plain", Layout(standalone=True))
    with pytest.raises(ValueError, match="only latex and latex-plain"):
        format_table(holes, "csv", Layout(standalone=True))


def test_every_suffix_names_a_format():
    assert set(SUFFIXES.values()) <= set(FORMATS)


def test_an_optional_row_that_was_not_named_is_no_line():
    table = TableStub(rows=(RowStub("Supervised"), RowStub("Never", 2)), fractions=(EIGHTH,))
    cells = tuple(cell for cell in table.cells() if cell.row != "Never")
    without = type("Without", (TableStub,), {"cells": lambda _self: cells})(rows=table.rows, fractions=(EIGHTH,))
    computed = compute_table(read(Storage("/nowhere"), without), without, Selection())
    assert [line.label for line in computed.lines] == ["Supervised"]


def test_the_long_and_the_wide_csv_hold_the_same_means(whole):
    """A second way: pandas-free, from the lines of the long CSV."""
    wide = {line["row"]: line for line in csv.DictReader(format_table(whole, "csv").splitlines())}
    scores: dict[tuple[str, str], list[float]] = {}
    for line in csv.DictReader(format_table(whole, "csv-long").splitlines()):
        if line["network"] == "student":
            scores.setdefault((line["row"], line["label_fraction"]), []).append(float(line["mean_iou"]))
    assert len(scores) == 29
    for (row, fraction), values in scores.items():
        mean = sum(values) / 5
        std = (sum((value - mean) ** 2 for value in values) / 4) ** 0.5
        assert float(wide[row][f"{fraction} mean (0-1)"]) == pytest.approx(mean, abs=1e-12)
        assert float(wide[row][f"{fraction} std (0-1)"]) == pytest.approx(std, abs=1e-12)
