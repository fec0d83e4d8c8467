"""The picture of complexity against correctness: what lies where, and that it can be read."""

import io
from dataclasses import replace

from matplotlib.figure import Figure
from PIL import Image

from results.mask_plot import draw, picture, points_of
from tests.results.test_mask_summary import BLOCKS, BOX, EMPTY, FULL, survey_of
from trainer.mask_statistics import MeasuredMask

FINER = MeasuredMask("Blocks p=8", "blocks", 8, (replace(FULL, edge_length=0.02, artificial_edge_share=0.5),))
CROWD = survey_of(BOX, *(replace(BOX, name=f"Box {number}") for number in range(5)), BLOCKS, FINER)


def test_a_mask_lies_at_its_mean_edge_length_and_percentage() -> None:
    box, blocks, finer = points_of(survey_of(BOX, BLOCKS, FINER))
    assert (box.x, box.y, box.text) == (0.02 / 3, 25.0, "Box")
    assert (finer.x, finer.y, finer.text) == (0.02, 50.0, "p = 8")
    assert (blocks.colour, blocks.marker) == (finer.colour, finer.marker)
    assert box.colour != blocks.colour
    assert box.marker != blocks.marker


def test_a_mask_without_edges_is_not_drawn() -> None:
    assert points_of(survey_of(MeasuredMask("Void", "void", None, (EMPTY,)))) == []
    assert picture(survey_of(MeasuredMask("Void", "void", None, (EMPTY,))), "png")


def test_the_same_survey_gives_the_same_bytes() -> None:
    assert picture(CROWD, "png") == picture(CROWD, "png")
    assert picture(CROWD, "pdf") == picture(CROWD, "pdf")
    assert picture(CROWD, "pdf").startswith(b"%PDF")
    with Image.open(io.BytesIO(picture(CROWD, "png"))) as sheet:
        assert sheet.size == (1344, 960)


def test_texts_of_masks_in_one_place_do_not_lie_on_each_other() -> None:
    figure = Figure(figsize=(8.4, 6), dpi=160, layout="constrained")
    draw(figure, CROWD)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 8
    assert not any(box.overlaps(other) for place, box in enumerate(boxes) for other in boxes[:place])


def test_a_row_may_have_any_name() -> None:
    figure = Figure(layout="constrained")
    draw(figure, survey_of(replace(BOX, name="_$50 and $")))
    assert [text.get_text() for text in figure.axes[0].texts] == ["_$50 and $"]


def test_axes_say_what_they_measure_and_the_title_where() -> None:
    figure = Figure(layout="constrained")
    draw(figure, CROWD)
    axes = figure.axes[0]
    assert "per pixel" in axes.get_xlabel()
    assert "(%)" in axes.get_ylabel()
    assert axes.get_xscale() == "log"
    assert "streets train at 32 x 64" in axes.get_title()
    assert "3 images" in axes.get_title()
