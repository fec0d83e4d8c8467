"""The CSV of the statistics: a line per comparison and per published value, in full precision, byte-stable."""

import csv

import pytest

from results.aggregate import selections_of
from results.compute import compute_table
from results.statistics import compare_with_published, compare_with_reference, format_statistics_csv
from tests.results.builders import EIGHTH, QUARTER, RowStub, TableStub, put_scores, read
from trainer.storage import Storage

SCORES = {
    "Supervised": {EIGHTH: [0.5, 0.52, 0.51], QUARTER: [0.6, 0.61, 0.6]},
    "ComplexMix": {EIGHTH: [0.56, 0.57, 0.57], QUARTER: [0.66, None, 0.65]},
    "=1+1": {EIGHTH: [0.5, None, None], QUARTER: [None] * 3},
    "ClassMix": {EIGHTH: [0.9] * 3, QUARTER: [0.9] * 3},
}
TABLE = TableStub(
    rows=(*map(RowStub, list(SCORES)[:3]), RowStub("ClassMix", selection="best")),
    reference_row="Supervised",
    published="complexmix_table1",
)


def compute(folder):
    storage = Storage(str(folder / "runs"))
    put_scores(storage, SCORES)
    selection, by_row = selections_of(TABLE)
    return compute_table(read(storage, TABLE), TABLE, selection, by_row=by_row)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    return compute(tmp_path_factory.mktemp("csv"))


def lines_of(text):
    return list(csv.DictReader(text.splitlines()))


def test_there_is_a_line_for_each_comparison_and_each_published_value(computed):
    lines = lines_of(format_statistics_csv(computed))
    assert [(line["kind"], line["row"], line["label_fractions"]) for line in lines] == [
        ("comparison", "ComplexMix", "1/8 1/4"),
        ("comparison", "'=1+1", "1/8"),
        ("comparison", "ClassMix", ""),
        *(("equivalence", row, f) for row in ("Supervised", "ComplexMix", "ClassMix") for f in ("1/8", "1/4")),
    ]


def test_numbers_stand_in_full_precision_below_the_right_heading(computed):
    line = lines_of(format_statistics_csv(computed))[0]
    expected = compare_with_reference(computed)[0]
    for unit, test in (("pairs", expected.pairs), ("seeds", expected.seeds)):
        assert (int(line[f"{unit}_n"]), int(line[f"{unit}_declared"])) == (test.n, test.declared)
        assert float(line[f"{unit}_difference_points"]) == test.difference
        assert (float(line[f"{unit}_p"]), float(line[f"{unit}_smallest_p"])) == (test.p, test.smallest_p)
        assert float(line[f"{unit}_p_holm"]) == test.p_holm
        assert float(line[f"{unit}_smallest_p_holm"]) == test.smallest_p_holm
        assert int(line[f"{unit}_rows_in_holm"]) == test.family == 2
    assert (float(line["interval_low_points"]), float(line["interval_high_points"])) == (
        expected.interval.low,
        expected.interval.high,
    )
    assert (line["verdict"], line["hedges_g"], line["margin_points"]) == (expected.verdict, "", "")


def test_what_was_not_tested_is_empty_and_never_nan(computed):
    text = format_statistics_csv(computed)
    undone, refused = lines_of(text)[1:3]
    assert (undone["pairs_p"], undone["seeds_p"], undone["verdict"]) == ("1.0", "", "not testable")
    assert (refused["pairs_p"], refused["pairs_difference_points"], refused["verdict"]) == ("", "", "not compared")
    assert "nan" not in text
    assert "None" not in text


def test_a_published_value_carries_its_margin_and_whether_it_is_fixed(computed):
    lines = lines_of(format_statistics_csv(computed, margin_points=2.0))[3:]
    for line, cell in zip(lines, compare_with_published(computed, 2.0), strict=True):
        assert (line["against"], line["margin_points"], line["verdict"]) == ("published", "2.0", cell.verdict)
        assert line["published_is_fixed"] == ("no" if cell.row == "ComplexMix" else "yes")
        assert float(line["published_points"]) == cell.published
        assert line["p_equivalence"] == ("" if cell.p is None else repr(cell.p))
        assert line["seeds_p"] == ("" if cell.p_different is None else repr(cell.p_different))


def test_another_reference_is_compared_with(computed):
    lines = lines_of(format_statistics_csv(computed, reference="ComplexMix"))
    assert {line["against"] for line in lines if line["kind"] == "comparison"} == {"ComplexMix"}


def test_the_same_records_give_the_same_bytes(computed, tmp_path):
    assert format_statistics_csv(compute(tmp_path)) == format_statistics_csv(computed)
