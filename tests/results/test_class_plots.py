"""Colours of heat maps: a figure can be read on each, and the scale is that of what is there."""

import math

import matplotlib as mpl
import pytest
from matplotlib.colors import to_hex

from results.class_plots import GAIN_COLOURS, IOU_COLOURS, ink_on, largest_gain
from results.series import ClassScores
from tests.results.test_plots import contrast


@pytest.mark.parametrize("name", [IOU_COLOURS, GAIN_COLOURS])
def test_figures_can_be_read_on_every_colour(name: str) -> None:
    for place in range(101):
        colour = mpl.colormaps[name](place / 100)
        assert contrast(to_hex(colour), ink_on(colour)) >= 4.5, place


def test_the_largest_change_bounds_the_colours() -> None:
    scores = ClassScores("1/8", ("road", "sky"), {}, {"A": (0.02, -0.2), "B": (math.nan, 0.1)}, "S")
    assert largest_gain([scores]) == 0.2
    assert largest_gain([]) == 0.01
