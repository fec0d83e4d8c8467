"""IoU by class as heat maps for a paper, and what a page needs to colour its own. The figure stands in every cell."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from results.figures import signed
from results.plot_output import Panel, Plot
from results.series import ClassScores

IOU_COLOURS, GAIN_COLOURS = "cividis", "PuOr"
"""Maps that the colour-blind read as everybody does: one in order of lightness, one around white."""


def class_plot(classes: Sequence[ClassScores], heads: Mapping[str, str]) -> Plot:
    """IoU of every row and class, a panel for each label fraction; `heads` are the headings of these."""
    panels = [
        Panel(heads[one.label_fraction], "", partial(_draw_heat, rows=one.iou, classes=one.classes)) for one in classes
    ]
    return _plot("class-iou", "IoU by class (%)", panels, classes)


def gain_plot(classes: Sequence[ClassScores], heads: Mapping[str, str]) -> Plot:
    """The gain over the reference row, where there is one."""
    bound = largest_gain(classes)
    panels = [
        Panel(
            f"{heads[one.label_fraction]}, over {one.reference}",
            "",
            partial(_draw_heat, rows=one.gain, classes=one.classes, bound=bound),
        )
        for one in classes
        if one.gain
    ]
    return _plot("class-gain", "Gain by class (points)", panels, classes)


def _plot(name: str, title: str, panels: Sequence[Panel], classes: Sequence[ClassScores]) -> Plot:
    num_rows = max((len(one.iou) for one in classes), default=1)
    num_classes = max((len(one.classes) for one in classes), default=1)
    size = (2.0 + 0.42 * num_classes, 1.2 + 0.3 * num_rows)
    return Plot(name, title, tuple(panels), num_columns=1, size=size, is_drawn_on_page=False)


def largest_gain(classes: Iterable[ClassScores]) -> float:
    """The largest change of a class's IoU in either direction, which bounds the colours; at least a point."""
    gains = [abs(gain) for one in classes for row in one.gain.values() for gain in row if not math.isnan(gain)]
    return max([0.01, *gains])


def ink_on(colour: Sequence[float]) -> str:
    """Black or white, whichever can be read better on a colour (contrast of WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def _draw_heat(
    axes: Axes, *, rows: Mapping[str, Sequence[float]], classes: Sequence[str], bound: float | None = None
) -> None:
    """Rows by classes in percent; with a `bound` a change, around zero."""
    values = 100 * np.array(list(rows.values()), np.float64)
    norm = Normalize(0, 100) if bound is None else Normalize(-100 * bound, 100 * bound)
    colours = IOU_COLOURS if bound is None else GAIN_COLOURS
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap=colours, norm=norm)
    mesh.set(edgecolor="white", linewidth=0.6)
    for (row, column), value in np.ndenumerate(values):
        text = "–" if math.isnan(value) else f"{value:.0f}" if bound is None else signed(value, 1)
        ink = "#000000" if math.isnan(value) else ink_on(mesh.cmap(norm(value)))
        drawn = axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7, color=ink)
        drawn.set_in_layout(False)  # it lies inside of the axes; measuring hundreds of them takes seconds
    _dress(axes, list(rows), classes)


def _dress(axes: Axes, rows: Sequence[str], classes: Sequence[str]) -> None:
    axes.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
