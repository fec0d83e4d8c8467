"""Means over images by hand, and where a share is defined on some images only."""

import csv
import io
from dataclasses import replace
from math import nan, sqrt

import pytest

from results.mask_summary import Summary, caption, format_csv, header, rows, summary_of
from trainer.mask_statistics import MaskStatistics, MaskSurvey, MeasuredMask

FULL = MaskStatistics(
    area_share=0.5,
    num_parts=2,
    edge_length=0.01,
    artificial_edge_share=0.25,
    ignored_edge_share=0.0,
    cut_object_share=1.0,
)
EMPTY = replace(
    FULL, area_share=0.0, num_parts=1, edge_length=0.0, artificial_edge_share=nan, ignored_edge_share=nan
)  # fmt: skip


def survey_of(*masks: MeasuredMask, left_out: tuple[str, ...] = ()) -> MaskSurvey:
    """Masks on a dataset of our own."""
    return MaskSurvey("streets", "train", 32, 64, seed=7, masks=masks, left_out=left_out)


BOX = MeasuredMask("Box", "cutmix", None, (FULL, replace(FULL, area_share=0.7, num_parts=4), EMPTY))
BLOCKS = MeasuredMask("Blocks p=4", "blocks", 4, (FULL, FULL, FULL))


def test_the_mean_is_over_images_and_the_std_is_the_samples() -> None:
    found = summary_of(BOX, "num_parts")
    assert (found.mean, found.n) == (7 / 3, 3)
    assert found.std == pytest.approx(sqrt(((2 - 7 / 3) ** 2 + (4 - 7 / 3) ** 2 + (1 - 7 / 3) ** 2) / 2))


def test_an_image_without_edges_has_no_share_of_them() -> None:
    assert summary_of(BOX, "artificial_edge_share") == Summary(0.25, 0.0, 2)


def test_a_line_shows_units_and_the_n_that_differs() -> None:
    box, blocks = rows(survey_of(BOX, BLOCKS))
    assert len(header()) == len(box) == len(blocks)
    assert box == [
        "Box", "40.0 ± 36.1", "2 ± 2", "0.0067 ± 0.0058", "25.0 ± 0.0 (n = 2)", "0.0 ± 0.0 (n = 2)", "100.0 ± 0.0",
    ]  # fmt: skip
    assert blocks[4] == "25.0 ± 0.0"


def test_one_image_has_no_spread_and_no_image_no_number() -> None:
    shown = rows(survey_of(MeasuredMask("Void", "void", None, (EMPTY,))))[0]
    assert (shown[1], shown[4]) == ("0.0", "none")


def test_the_caption_says_where_the_masks_come_from_and_what_is_not_measured() -> None:
    told = " ".join(caption(survey_of(BOX, left_out=("ict",))))
    for word in ("n = 3 images of streets train at 32 x 64", "seed 7", "true labels", "16 pixels", "Not measured: ict"):
        assert word in told
    assert "Not measured" not in " ".join(caption(survey_of(BOX)))


def test_the_csv_holds_every_number_in_full() -> None:
    box, blocks = csv.DictReader(io.StringIO(format_csv(survey_of(BOX, BLOCKS))))
    assert (box["mask"], box["block_count"], blocks["block_count"]) == ("Box", "", "4")
    assert float(box["area_share_mean"]) == summary_of(BOX, "area_share").mean
    assert (box["artificial_edge_share_mean"], box["artificial_edge_share_n"]) == ("0.25", "2")
    assert [box[name] for name in ("dataset", "split", "height", "width", "seed", "num_images")] == [
        "streets", "train", "32", "64", "7", "3",
    ]  # fmt: skip


def test_what_is_undefined_is_empty_in_the_csv() -> None:
    line = next(csv.DictReader(io.StringIO(format_csv(survey_of(MeasuredMask("Void", "void", None, (EMPTY,)))))))
    names = ("area_share_mean", "area_share_std", "area_share_n")
    assert [line[name] for name in names] == ["0.0", "", "1"]
    assert (line["artificial_edge_share_mean"], line["artificial_edge_share_n"]) == ("", "0")
