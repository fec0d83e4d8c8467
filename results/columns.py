"""Frames built by column, for tables of a million lines. Knows no storage and no column by name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa


def frame_of(lines: Iterable[tuple[Any, ...]], columns: Mapping[str, str]) -> pd.DataFrame:
    """A frame of lines; `columns` are names and dtypes, kept where there is no line."""
    values = list(zip(*lines, strict=True)) or [()] * len(columns)
    return pd.DataFrame(
        {name: _column(column, dtype) for (name, dtype), column in zip(columns.items(), values, strict=True)}
    )


class LongFrame:
    """Collects heads, each with a name and a number for several lines.

    Args:
        columns: names and dtypes of the frame.
        name: the column in which the lines of a head differ by a word.
        value: the column of their numbers.
    """

    def __init__(self, columns: Mapping[str, str], *, name: str, value: str) -> None:
        self._columns = columns
        self._name, self._value = name, value
        self._heads: list[tuple[Any, ...]] = []
        self._widths: list[int] = []
        self._names: list[str] = []
        self._values: list[float | None] = []

    def add(self, head: tuple[Any, ...], names: Sequence[str], values: Sequence[float | None]) -> None:
        """Add a line for each name; `head` are the other columns in order, and None is no number."""
        assert len(names) == len(values), "a number for each name"
        self._heads.append(head)
        self._widths.append(len(names))
        self._names += names
        self._values += values

    def frame(self) -> pd.DataFrame:
        """All lines, in the order in which they came."""
        outer = {name: dtype for name, dtype in self._columns.items() if name not in (self._name, self._value)}
        heads = list(zip(*self._heads, strict=True)) or [()] * len(outer)
        widths = np.array(self._widths, dtype=np.int64)
        made = {name: _column(head, dtype, widths) for (name, dtype), head in zip(outer.items(), heads, strict=True)}
        made |= {self._name: _column(self._names, "str"), self._value: _column(self._values, "float64")}
        return pd.DataFrame({name: made[name] for name in self._columns})


def _column(values: Sequence[Any], dtype: str, repeats: np.ndarray | None = None) -> pd.Series:
    """A column, in which each value stands several times where that is asked for; None is no number."""
    if dtype != "str":
        array = np.array(values, dtype=dtype)
        return pd.Series(array if repeats is None else np.repeat(array, repeats))
    places: dict[str, int] = {}  # a few words stand many times: each is made once
    codes = np.array([places.setdefault(value, len(places)) for value in values], dtype=np.int32)
    words = pa.array(list(places), type=pa.large_string())
    return pd.Series(words.take(pa.array(codes if repeats is None else np.repeat(codes, repeats))), dtype="str")
