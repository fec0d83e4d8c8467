"""The statistics as a terminal shows them."""

from io import StringIO

import pytest
from rich.console import Console

from orchestrator.cli.statistics_view import print_statistics
from results.aggregate import Selection
from results.compute import compute_table
from tests.results.builders import EIGHTH, QUARTER, RowStub, TableStub, put_scores, read
from trainer.storage import Storage

SCORES = {
    "Supervised": {EIGHTH: [0.5, 0.52, 0.51], QUARTER: [0.6, 0.61, 0.6]},
    "[bold] Mix": {EIGHTH: [0.56, 0.57, 0.57], QUARTER: [0.66, None, 0.65]},
}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    storage = Storage(str(tmp_path_factory.mktemp("view") / "runs"))
    put_scores(storage, SCORES)
    table = TableStub(rows=tuple(map(RowStub, SCORES)), reference_row="Supervised")
    return compute_table(read(storage, table), table, Selection())


def printed(computed, width=160, **options):
    text = StringIO()
    print_statistics(computed, Console(file=text, width=width), **options)
    return text.getvalue()


def test_intervals_figures_and_sentences_are_printed(computed):
    text = printed(computed, varies="the seed varies")
    assert "48.52 to 53.48" in text  # 51 ± 4.302653 x 1 / sqrt(3)
    assert "† (2/3)" in text
    assert "rows against Supervised, in points of mean IoU (below each p the one after Holm)" in text
    assert "- Between the runs of a cell the seed varies." in text
    assert "- [bold] Mix against Supervised: +" in text


def test_a_row_with_one_seed_has_no_interval(tmp_path):
    storage = Storage(str(tmp_path / "runs"))
    put_scores(storage, {"Supervised": {EIGHTH: [0.5]}})
    table = TableStub(rows=(RowStub("Supervised"),), fractions=(EIGHTH,), seeds=(0,), reference_row="Supervised")
    text = printed(compute_table(read(storage, table), table, Selection()))
    assert next(line for line in text.splitlines() if line.startswith("Supervised")).split() == ["Supervised", "│", "–"]
    assert "There is no row to compare with Supervised." in text


def test_a_wrong_row_is_refused_before_anything_is_printed(computed):
    text = StringIO()
    with pytest.raises(ValueError, match="has the rows"):
        print_statistics(computed, Console(file=text), reference="CutMix")
    assert text.getvalue() == ""


def test_eighty_columns_cut_no_digit_and_no_verdict(computed):
    text = printed(computed, width=80)
    assert "…" not in text
    assert {"0.062", "testable"} <= set(text.split())
