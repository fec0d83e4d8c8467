"""How rows and label fractions look in every plot: colour, marker and dash together, so that no one of them is needed.

Each colour has a twin for a dark page. Knows no plot.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex

INK, GRID = "#1b1f24", "#d9dde2"
# Okabe and Ito's colours, which the colour-blind tell apart: orange and sky darkened for white paper, no yellow.
_LIGHT = (INK, "#0072b2", "#d55e00", "#009e73", "#b97f00", "#b85c92", "#2e95cc")
_DARK = ("var(--ink)", "#5aaee8", "#f0803c", "#2dbe94", "#e69f00", "#e39cc4", "#a5d8f7")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (5, 2, 1, 2)), (0, (1.5, 1.5)))

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,  # a row may be called "$50"
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and coloured by the page
}


def drawing(name: str) -> AbstractContextManager[None]:
    """Draw within this: our fonts, colours and lines; the ids of an SVG follow from the plot's name."""
    return mpl.rc_context({**_RC, "svg.hashsalt": name})


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker and dash of a line; a hollow one has its marker filled with the paper."""

    colour: str
    marker: str
    dash: Any = "-"
    is_hollow: bool = False

    def options(self) -> dict[str, Any]:
        """As matplotlib's `plot` wants it."""
        face = "none" if self.is_hollow else self.colour
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dash, "markerfacecolor": face}


def row_look(index: int) -> Look:
    """The look of a table's row: the first, mostly the supervised one, in ink; 252 rows differ."""
    return Look(_LIGHT[index % len(_LIGHT)], _MARKERS[index % len(_MARKERS)], _DASHES[index % len(_DASHES)])


def fraction_look(index: int, count: int) -> Look:
    """The look of a label fraction among `count`, which are in order: along viridis, dark to light."""
    return Look(_along_viridis(index, count, 0.0, 0.78), _MARKERS[index % len(_MARKERS)])


def _along_viridis(index: int, count: int, first: float, last: float) -> str:
    place = first + (last - first) * index / max(1, count - 1)
    return str(to_hex(mpl.colormaps["viridis"](place)))


def variables(num_fractions: int) -> Sequence[tuple[str, str, str]]:
    """CSS variable, colour on white and colour on a dark page, for everything that a line plot draws."""
    rows = [(f"--row-{i}", light, dark) for i, (light, dark) in enumerate(zip(_LIGHT, _DARK, strict=True)) if i]
    fractions = [
        (f"--fraction-{i}", fraction_look(i, num_fractions).colour, _along_viridis(i, num_fractions, 0.4, 0.98))
        for i in range(num_fractions)
    ]
    return [("--ink", INK, "#e8eaed"), ("--grid", GRID, "#3a4149"), *rows, *fractions]
