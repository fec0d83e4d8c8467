"""Long frames by column are those that come of one line at a time."""

import math

import pandas as pd
import pytest

from results.columns import LongFrame, frame_of

COLUMNS = {"trial": "str", "step": "int64", "name": "str", "value": "float64"}


def long_frame(*heads):
    frame = LongFrame(COLUMNS, name="name", value="value")
    for trial, step, pairs in heads:
        frame.add((trial, step), [name for name, _ in pairs], [value for _, value in pairs])
    return frame.frame()


def test_each_head_stands_beside_each_of_its_lines():
    found = long_frame(("b", 1, [("x", 0.5), ("y", None)]), ("a", 2, []), ("b", 3, [("x", 0.25)]))
    lines = [("b", 1, "x", 0.5), ("b", 1, "y", math.nan), ("b", 3, "x", 0.25)]
    pd.testing.assert_frame_equal(found, frame_of(lines, COLUMNS), check_exact=True)


def test_a_frame_without_lines_has_all_columns_and_dtypes():
    pd.testing.assert_frame_equal(long_frame(), frame_of([], COLUMNS))
    assert {name: str(dtype) for name, dtype in long_frame().dtypes.items()} == COLUMNS


def test_a_number_is_wanted_for_each_name():
    with pytest.raises(AssertionError, match="a number for each name"):
        LongFrame(COLUMNS, name="name", value="value").add(("a", 1), ["x", "y"], [0.5])
