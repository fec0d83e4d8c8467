"""IoU and gain by class as tables whose cells are coloured; the figure stands in each, so colour is never needed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.colors import to_hex

from results.class_plots import GAIN_COLOURS, IOU_COLOURS, ink_on, largest_gain
from results.compute import ComputedTable
from results.figures import signed
from results.layout import header
from results.series import ClassScores, class_scores

_NUM_STOPS = 9


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A figure, the colour behind it and that of its ink; both colours are "" where there is no figure."""

    text: str
    background: str = ""
    ink: str = ""


@dataclass(frozen=True, slots=True)
class HeatTable:
    """Rows by classes, and the scale of colours: its ends in words and a CSS gradient between them."""

    title: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]
    low: str
    high: str
    gradient: str


def heat_tables(table: ComputedTable) -> Iterator[HeatTable]:
    """For each label fraction IoU by class and, where there is a reference row, the gain over it."""
    classes = class_scores(table)
    heads = dict(zip(table.fractions, header(table)[1:], strict=True))
    bound = largest_gain(classes)
    for one in classes:
        yield _heat(f"IoU by class in percent at {heads[one.label_fraction]}", one, one.iou, _IouScale())
        if one.gain:
            title = f"Gain by class over {one.reference} in points at {heads[one.label_fraction]}"
            yield _heat(title, one, one.gain, _GainScale(bound))


@dataclass(frozen=True, slots=True)
class _IouScale:
    low: str = "0"
    high: str = "100"
    colours: str = IOU_COLOURS

    def place(self, value: float) -> float:
        return value

    def text(self, value: float) -> str:
        return f"{100 * value:.0f}"


@dataclass(frozen=True, slots=True)
class _GainScale:
    bound: float
    colours: str = GAIN_COLOURS

    @property
    def low(self) -> str:
        return self.text(-self.bound)

    @property
    def high(self) -> str:
        return self.text(self.bound)

    def place(self, value: float) -> float:
        return 0.5 + 0.5 * value / self.bound

    def text(self, value: float) -> str:
        return signed(100 * value, 1)


def _heat(
    title: str, one: ClassScores, values: Mapping[str, Sequence[float]], scale: _IouScale | _GainScale
) -> HeatTable:
    rows = tuple((row, tuple(_cell(value, scale) for value in found)) for row, found in values.items())
    return HeatTable(title, one.classes, rows, scale.low, scale.high, _gradient(scale.colours))


def _cell(value: float, scale: _IouScale | _GainScale) -> HeatCell:
    if math.isnan(value):
        return HeatCell("–")
    colour = mpl.colormaps[scale.colours](scale.place(value))
    return HeatCell(scale.text(value), to_hex(colour), ink_on(colour))


def _gradient(colours: str) -> str:
    colour_at = mpl.colormaps[colours]
    return ", ".join(to_hex(colour_at(stop / (_NUM_STOPS - 1))) for stop in range(_NUM_STOPS))
