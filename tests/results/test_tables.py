"""Formats of a table from a fixed set of records, byte for byte, and what each of them must say."""

import csv
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from results.aggregate import Selection, selections_of
from results.compute import caption, compute_table, header, rows_for_display
from results.escaping import escape_latex, escape_markdown
from results.tables import FORMATS, format_latex, format_table, write_table
from tests.results.builders import (
    EIGHTH,
    FULL,
    QUARTER,
    RowStub,
    TableStub,
    judged,
    put_done,
    put_failed,
    put_partial,
    put_score,
    read,
    spec_of,
)
from trainer.records import Storage, trial_path

GOLDEN = Path(__file__).parents[1] / "golden" / "tables"
HOSTILE = "[50%]* & a_b #1 $x$ {y} ~^\\\nnext|line"
TABLE = TableStub(
    rows=(RowStub("Supervised"), RowStub("ComplexMix", 2), RowStub(HOSTILE, 2)),
    fractions=(EIGHTH, QUARTER, FULL),
    published="complexmix_table1",
)
ENDINGS = {"csv": "wide.csv", "csv-long": "long.csv", "latex": "table.tex", "markdown": "table.md"}


def fill(storage):
    """Every kind of cell: complete, leading, with a failure, with holes, partial, undefined in a class, damaged."""
    for seed in (0, 1, 2):
        for fraction in (EIGHTH, QUARTER, FULL):
            put_score(storage, "Supervised", fraction, seed, 0.5 + seed / 64 + float(fraction) / 8)
        put_score(storage, "ComplexMix", EIGHTH, seed, 0.75 - seed / 128)
    put_done(storage, spec_of("ComplexMix", QUARTER, 0), judged(20, 0.625, classes=(0.5, None, 0.75)))
    put_failed(storage, spec_of("ComplexMix", QUARTER, 1))
    put_partial(storage, spec_of(HOSTILE, EIGHTH, 1), judged(10, 0.875))
    put_score(storage, HOSTILE, EIGHTH, 2, 0.5)
    path = trial_path(spec_of(HOSTILE, EIGHTH, 2).trial_id, "result.json")
    storage.write(path, storage.read(path).replace(b"0.5", b"0.9"))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    storage = Storage(str(tmp_path_factory.mktemp("tables") / "runs"))
    fill(storage)
    return read(storage, TABLE)


@pytest.fixture(scope="module")
def computed(frames):
    return compute_table(frames, TABLE, Selection())


@pytest.mark.parametrize("name", FORMATS)
def test_tables_equal_the_golden_files_byte_for_byte(computed, name):
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/results/test_tables.py -k golden"""
    path = GOLDEN / ENDINGS[name]
    if os.environ.get("MIXGRID_RENEW_GOLDEN"):
        write_table(format_table(computed, name), path)
    assert format_table(computed, name).encode() == path.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_another_storage_with_the_same_records_gives_the_same_bytes(computed, name, tmp_path):
    storage = Storage(str(tmp_path / "elsewhere"))
    fill(storage)
    again = compute_table(read(storage, TABLE), TABLE, Selection())
    assert format_table(again, name) == format_table(computed, name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_of_which_nothing_was_run_can_be_printed(name, tmp_path):
    frames = read(Storage(str(tmp_path)), TABLE)
    assert "ComplexMix" in format_table(compute_table(frames, TABLE, Selection()), name)


def test_incomplete_cells_are_marked_with_their_count_and_are_not_bold(computed):
    rows = rows_for_display(computed, embolden=lambda text: f"**{text}**")
    assert rows[1][1:] == ["**74.22 ± 0.78**; 62.25 ± 1.22 (paper)", "62.50† (1/3); 64.07 ± 0.46 (paper)", ""]
    assert rows[2][1:] == ["–† (0/3)", "–† (0/3)", ""]


def test_headers_carry_the_count_of_labelled_images(frames, computed):
    assert header(computed) == ["Method", "1/8 (30)", "1/4 (60)", "Full (240)"]
    told = compute_table(frames, TABLE, Selection(), counts={EIGHTH: 372})
    assert header(told) == ["Method", "1/8 (372)", "1/4", "Full"]


def test_a_cell_with_other_seeds_than_the_table_prints_its_n(frames):
    assert rows_for_display(compute_table(frames, TABLE, Selection()))[0][3].startswith("64.06 ± 1.56;")
    more_seeds = TableStub(rows=TABLE.rows, fractions=TABLE.fractions, seeds=(0, 1, 2, 3))
    assert rows_for_display(compute_table(frames, more_seeds, Selection()))[0][3] == "64.06 ± 1.56 (n = 3)"


def test_the_caption_states_policy_network_metric_size_spread_and_n(computed):
    text = caption(computed)
    for said in ("Mean IoU", "student", "last step", "64x128", "ddof 1", "n = 3", "random", "†"):
        assert said in text


def test_the_caption_names_best_and_rows_without_teacher(frames):
    text = caption(compute_table(frames, TABLE, Selection("best", "teacher")))
    assert "teacher at its best evaluation step" in text
    assert "Judged by the student, having no teacher: Supervised" in text


def test_the_caption_says_each_size_with_how_it_was_judged(computed):
    sizes = ("1024x2048 (sliding windows)", "512x1024")
    text = caption(replace(computed, eval_sizes=sizes))
    assert "evaluated at 1024x2048 pixels (sliding windows) and 512x1024 pixels." in text


def test_a_demonstration_says_so_in_caption_and_first_comment(frames):
    table = TableStub(rows=TABLE.rows, fractions=TABLE.fractions, is_demonstration=True)
    text = format_latex(compute_table(frames, table, Selection()), standalone=True)
    assert text.startswith("% DEMONSTRATION on synthetic or small data, no reproduction")
    assert r"\caption{DEMONSTRATION" in text


def test_changed_fields_are_said_in_the_caption(frames):
    table = TableStub(rows=TABLE.rows, fractions=TABLE.fractions, overrides=(("num_steps", 600),))
    assert "Changed from the declared table: num_steps=600." in caption(compute_table(frames, table, Selection()))


def test_the_wide_csv_holds_full_precision_and_the_published_values(computed):
    header_line, _, mixed, _ = csv.reader(format_table(computed, "csv").splitlines())
    values = dict(zip(header_line, mixed, strict=True))
    assert float(values["1/8 mean (0-1)"]) == (0.75 + 0.7421875 + 0.734375) / 3
    assert (values["1/8 published mean (0-1)"], values["1/8 published std (0-1)"]) == ("0.6225", "0.0122")
    assert (values["1/4 n"], values["1/4 expected n"], values["1/4 state"]) == ("1", "3", "failed 1; missing 2")
    assert (values["1 state"], values["1 published mean (0-1)"]) == ("not declared", "")


def test_the_long_csv_has_a_line_per_trial_and_network_and_leaves_undefined_classes_empty(computed):
    lines = list(csv.DictReader(format_table(computed, "csv-long").splitlines()))
    mixed = [line for line in lines if (line["row"], line["label_fraction"]) == ("ComplexMix", "1/4")]
    assert [(line["seed"], line["state"], line["mean_iou"]) for line in mixed] == [
        ("0", "done", "0.625"),
        ("0", "done", "0.25"),
        ("1", "failed", ""),
        ("2", "missing", ""),
    ]
    assert (mixed[0]["iou_road"], mixed[0]["iou_sky"], mixed[0]["iou_car"]) == ("0.5", "", "0.75")


def test_hostile_text_is_escaped_for_latex():
    assert escape_latex(HOSTILE) == (
        r"{[}50\%{]}{*} \& a\_b \#1 \$x\$ \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"next\textbar{}line"
    )
    assert escape_latex("a--b\x00\u2028c ± –") == r"a-{}-b c $\pm$ \textendash{}"


def test_hostile_text_stays_in_its_markdown_cell():
    assert escape_markdown("a|b\n*c*") == r"a\|b \*c\*"


def test_hostile_labels_cannot_leave_a_latex_comment(computed):
    lines = format_latex(computed).splitlines()
    start = lines.index(r"\begin{table}")
    assert all(line.startswith("% ") for line in lines[:start])
    assert not any(line.startswith("next") for line in lines)


def test_a_damaged_result_is_named_in_every_format_for_people(computed):
    for name in ("latex", "markdown"):
        assert "result not accepted" in format_table(computed, name)


def test_latex_carries_the_trials_and_the_code_of_each_cell(computed):
    text = format_latex(computed)
    assert f"% Supervised, 1/8: n 3/3; trials {spec_of('Supervised').trial_id}," in text
    assert "code c0dec0dec0de" in text


def test_an_unknown_format_names_the_known_ones(computed):
    with pytest.raises(ValueError, match="csv, csv-long, latex, markdown"):
        format_table(computed, "excel")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_the_standalone_table_compiles(computed, tmp_path):
    write_table(format_latex(computed, standalone=True), tmp_path / "table.tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-800:]


OWN = TableStub(
    rows=(
        RowStub("Supervised"),
        RowStub("ClassMix", 2, selection="best"),
        RowStub("ComplexMix", 2, reported_network="teacher"),
    ),
    fractions=(EIGHTH,),
)


@pytest.fixture(scope="module")
def own_selections(tmp_path_factory):
    storage = Storage(str(tmp_path_factory.mktemp("own") / "runs"))
    for seed in (0, 1, 2):
        put_score(storage, "Supervised", EIGHTH, seed, 0.5 + seed / 100)
        put_score(storage, "ComplexMix", EIGHTH, seed, 0.6 + seed / 100)
        put_done(storage, spec_of("ClassMix", EIGHTH, seed), judged(10, 0.9), judged(20, 0.7))
    selection, by_row = selections_of(OWN)
    return compute_table(read(storage, OWN), OWN, selection, by_row=by_row)


@pytest.mark.parametrize("name", ["markdown", "latex"])
def test_a_row_judged_otherwise_is_marked_in_its_label_and_explained_in_the_caption(own_selections, name):
    text = format_table(own_selections, name).replace("{", "").replace("}", "").replace("\\", "")
    assert "ClassMix [best] " in text
    assert "ComplexMix [teacher] " in text
    assert "Otherwise the row marked [best], ClassMix: the student at its best evaluation step" in text
    assert "Otherwise the row marked [teacher], ComplexMix: the teacher at the last step" in text
    assert "Supervised [" not in text


def test_csv_carries_each_rows_own_policy_and_network(own_selections):
    wide = {line["row"]: line for line in csv.DictReader(format_table(own_selections, "csv").splitlines())}
    assert [wide[row]["policy"] for row in ("Supervised", "ClassMix", "ComplexMix")] == ["last", "best", "last"]
    assert wide["ComplexMix"]["network"] == "teacher"
    lines = list(csv.DictReader(format_table(own_selections, "csv-long").splitlines()))
    steps = {(line["row"], line["network"]): (line["policy"], line["step"]) for line in lines}
    assert steps["ClassMix", "student"] == ("best", "10")
    assert steps["ComplexMix", "teacher"] == ("last", "20")


def test_what_was_chosen_in_another_way_is_never_bold(own_selections):
    rows = rows_for_display(own_selections, embolden=lambda text: f"**{text}**")
    assert [row[1] for row in rows] == ["51.00 ± 1.00", "90.00 ± 0.00", "**62.00 ± 1.00**"]
    assert "take no part in it" in caption(own_selections)


def test_an_optional_row_that_was_not_named_is_no_line():
    table = TableStub(rows=(RowStub("Supervised"), RowStub("Never", 2)), fractions=(EIGHTH,))
    cells = tuple(cell for cell in table.cells() if cell.row != "Never")
    without = type("Without", (TableStub,), {"cells": lambda _self: cells})(rows=table.rows, fractions=(EIGHTH,))
    computed = compute_table(read(Storage("/nowhere"), without), without, Selection())
    assert [line.label for line in computed.lines] == ["Supervised"]


def test_the_caption_says_which_rows_were_judged_at_which_size(own_selections):
    first, *others = own_selections.lines
    mixed = replace(
        own_selections,
        eval_sizes=("513x1025", "64x128"),
        lines=(replace(first, eval_sizes=("513x1025",)), *others),
    )
    assert "At 513x1025: Supervised. At 64x128: ClassMix, ComplexMix." in caption(mixed)
