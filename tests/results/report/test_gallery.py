"""Pictures in the order in which one compares them."""

import base64

from results.report.gallery import judged_strips, mixing_strips
from tests.results.report.small_report import PICTURES, picture


def test_an_image_comes_with_its_truth_and_then_row_by_row() -> None:
    more = (*PICTURES, picture("Prediction", "prediction", "ComplexMix"), picture("Image", "image", "", "street 2"))
    first, second = judged_strips(more)
    assert (first.title, second.title) == ("street 1", "street 2")
    assert [(row, [shown.kind for shown in shown]) for row, shown in first.rows] == [
        ("", ["image", "truth"]),
        ("ClassMix", ["prediction", "error"]),
        ("ComplexMix", ["prediction"]),
    ]


def test_mixing_is_shown_apart() -> None:
    (strip,) = mixing_strips(PICTURES)
    assert [(row, [one.kind for one in shown]) for row, shown in strip.rows] == [("ClassMix", ["mask", "mix"])]
    assert list(mixing_strips(PICTURES[:4])) == []


def test_a_picture_lies_whole_in_its_source() -> None:
    (strip,) = judged_strips(PICTURES[:1])
    shown = strip.rows[0][1][0]
    assert base64.b64decode(shown.source.partition(",")[2]) == PICTURES[0].png
    assert shown.words == "the image, street 1"
