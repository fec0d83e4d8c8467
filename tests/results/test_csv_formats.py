"""What the two CSV files hold, field by field."""

import csv
from dataclasses import replace

import pytest

from results.csv_formats import format_csv, format_csv_long
from tests.results.holes import TABLE, compute_holes


def wide(table):
    return {line["row"]: line for line in csv.DictReader(format_csv(table).splitlines())}


def test_the_wide_csv_holds_full_precision_states_and_stale_seeds(holes):
    values = wide(holes)
    assert float(values["ComplexMix"]["1/8 mean (0-1)"]) == (0.75 + 0.7421875 + 0.734375) / 3
    names = ("n", "expected n", "state", "stale seeds")
    assert [values["ComplexMix"][f"1/4 {name}"] for name in names] == ["1", "3", "failed 1; missing 2", ""]
    assert [values["ClassMix"][f"1/8 {name}"] for name in names] == ["3", "3", "done", "0, 2"]
    assert values["ComplexMix"]["1 state"] == "not declared"


def test_the_wide_csv_holds_paired_differences_with_their_seeds(holes):
    values = wide(holes)
    assert values["ComplexMix"]["reference"] == "Supervised"
    # seeds 0, 1, 2: 0.75 - 0.515625, 0.7421875 - 0.53125, 0.734375 - 0.546875, each 0.0234375 below the one before
    assert float(values["ComplexMix"]["1/8 difference (0-1)"]) == 0.2109375
    assert float(values["ComplexMix"]["1/8 std of difference (0-1)"]) == 0.0234375
    assert values["ComplexMix"]["1/8 seeds in difference"] == "3"
    # what is incomplete keeps its difference, over the seeds it has
    assert (values["ComplexMix"]["1/4 seeds in difference"], values["ComplexMix"]["1/4 std of difference (0-1)"]) == (
        "1",
        "",
    )
    assert (values["Supervised"]["1/8 difference (0-1)"], values["Supervised"]["1/8 seeds in difference"]) == ("", "0")


def test_the_wide_csv_holds_published_values_and_verdicts_of_complete_cells(holes):
    values = wide(holes)
    names = ("published mean (0-1)", "published std (0-1)", "verdict")
    assert [values["ComplexMix"][f"1/8 {name}"] for name in names] == ["0.6225", "0.0122", "off by +11.97"]
    assert [values["ComplexMix"][f"1/4 {name}"] for name in names] == ["0.6407", "0.0046", ""]
    assert values["ClassMix"]["1/8 verdict"] == ""


def test_without_reference_and_published_table_their_columns_are_not_there(holes_storage):
    bare = compute_holes(holes_storage, replace(TABLE, published=None, reference_row=None))
    head = format_csv(bare).splitlines()[0]
    assert not [word for word in ("reference", "difference", "published", "verdict") if word in head]
    assert "1/8 stale seeds" in head


def test_the_long_csv_has_a_line_per_trial_and_network_and_leaves_undefined_classes_empty(holes):
    lines = list(csv.DictReader(format_csv_long(holes).splitlines()))
    mixed = [line for line in lines if (line["row"], line["label_fraction"]) == ("ComplexMix", "1/4")]
    assert [(line["seed"], line["state"], line["mean_iou"]) for line in mixed] == [
        ("0", "done", "0.625"),
        ("0", "done", "0.25"),
        ("1", "failed", ""),
        ("2", "missing", ""),
    ]
    assert (mixed[0]["iou_road"], mixed[0]["iou_sky"], mixed[0]["iou_car"]) == ("0.5", "", "0.75")


def test_the_long_csv_says_what_changed_since(holes):
    lines = list(csv.DictReader(format_csv_long(holes).splitlines()))
    stale = {(line["row"], line["label_fraction"], line["seed"]): line["stale"] for line in lines if line["stale"]}
    assert stale == dict.fromkeys(
        [("ClassMix", "1/8", "0"), ("ClassMix", "1/8", "2")], "code changed: trainer/losses.py"
    )


@pytest.mark.parametrize("form", [format_csv, format_csv_long])
def test_csv_carries_each_rows_own_policy_and_network(form, own_selections):
    lines = list(csv.DictReader(form(own_selections).splitlines()))
    found = {(line["row"], line["policy"], line["network"]) for line in lines}
    wanted = {("Supervised", "last", "student"), ("ClassMix", "best", "student"), ("ComplexMix", "last", "teacher")}
    assert wanted <= found
    assert {policy for row, policy, _ in found if row == "ClassMix"} == {"best"}
