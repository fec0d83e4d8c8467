"""Complexity of masks against correctness as a picture. The same survey gives the same bytes; needs no screen."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import isfinite
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from results.mask_summary import ARTIFICIAL, COMPLEXITY, place, summary_of
from trainer.mask_statistics import MaskSurvey, MeasuredMask

# Okabe and Ito's colours, which the colour-blind tell apart, less yellow, which white swallows; shapes differ too.
_COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#009E73", "#000000", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_DOTS_PER_INCH = 160
_PATH_STEPS = 40
_MARKER_POINTS = 10
_OFFSETS = ((1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6), (0, 1), (0, -1), (1.3, 0), (-1.3, 0))
_DISTANCES = (9, 18, 30)


@dataclass(frozen=True, slots=True)
class Point:
    """A mask in its place; one block count alone is drawn small and hollow and joined to others of its family."""

    family: str
    text: str
    x: float
    y: float
    block_count: int | None
    colour: str
    marker: str


def picture(survey: MaskSurvey, form: Literal["png", "pdf"]) -> bytes:
    """Edges per pixel, on a logarithmic axis, against the percentage of them off label borders, each mask a point."""
    with mpl.rc_context({"pdf.fonttype": 42, "font.size": 10}):
        figure = Figure(figsize=(8.4, 6), dpi=_DOTS_PER_INCH, layout="constrained")
        draw(figure, survey)
        buffer = io.BytesIO()
        no_date = {"CreationDate": None} if form == "pdf" else {"Software": None}
        figure.savefig(buffer, format=form, dpi=_DOTS_PER_INCH, metadata=no_date)
    return buffer.getvalue()


def points_of(survey: MaskSurvey) -> list[Point]:
    """Where each mask lies; one without an edge has no place on the picture."""
    families = list(dict.fromkeys(mask.family for mask in survey.masks))
    points = [_point(mask, families.index(mask.family)) for mask in survey.masks]
    return [point for point in points if isfinite(point.y) and point.x > 0]


def _point(mask: MeasuredMask, family: int) -> Point:
    return Point(
        family=mask.family,
        text=mask.name if mask.block_count is None else f"p = {mask.block_count}",
        x=summary_of(mask, COMPLEXITY.field).mean,
        y=ARTIFICIAL.factor * summary_of(mask, ARTIFICIAL.field).mean,
        block_count=mask.block_count,
        colour=_COLOURS[family % len(_COLOURS)],
        marker=_MARKERS[family % len(_MARKERS)],
    )


def draw(figure: Figure, survey: MaskSurvey) -> None:
    """Put points, lines, axes, legend and texts on an empty figure."""
    axes, points = figure.subplots(), points_of(survey)
    paths = [[p for p in points if p.family == name and p.block_count is not None] for name in _families(points)]
    for path in paths:
        path.sort(key=lambda point: point.block_count or 0)
        axes.plot([p.x for p in path], [p.y for p in path], "-", color=path[0].colour if path else None, linewidth=1)
    for point in points:
        _draw_point(axes, point)
    _dress(axes, survey)
    _draw_legend(figure, points)
    figure.draw_without_rendering()  # the layout is settled now, so that texts can be measured
    _write_texts(axes, points, paths)


def _families(points: Iterable[Point]) -> list[str]:
    return list(dict.fromkeys(point.family for point in points))


def _draw_point(axes: Axes, point: Point) -> None:
    is_alone = point.block_count is not None
    face, size = ("white", 6) if is_alone else (point.colour, 9)
    axes.plot([point.x], [point.y], point.marker, color=point.colour, markerfacecolor=face, markersize=size)


def _dress(axes: Axes, survey: MaskSurvey) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_ylim(-8, 108)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("complexity: mask edges per pixel (logarithmic)")
    axes.set_ylabel("1 - correctness: mask edges off label borders (%)")
    title = f"Masks on {place(survey)}, from true labels; means over {survey.num_images} images"
    axes.set_title(title, fontsize=10, parse_math=False)


def _draw_legend(figure: Figure, points: Sequence[Point]) -> None:
    axes = figure.axes[0]
    for name in _families(points):
        first = next(point for point in points if point.family == name)
        axes.plot([], [], first.marker, color=first.colour, label=name)
    if any(point.block_count is not None for point in points):
        axes.plot([], [], "o-", color="0.4", markerfacecolor="white", label="hollow: one block count p alone")
    handles, _ = axes.get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)


# --- texts that do not lie on each other --------------------------------------------------------------------------


def _write_texts(axes: Axes, points: Sequence[Point], paths: Sequence[Sequence[Point]]) -> None:
    """Name each point, at whichever place around it covers least of the texts so far, the markers and the lines."""
    taken = [_box_around(x, y, _MARKER_POINTS / 72 * _DOTS_PER_INCH) for x, y in _spots(axes, points)]
    for path in paths:
        for start, end in pairwise(_spots(axes, path)):
            taken += [_box_around(x, y, 2) for x, y in np.linspace(start, end, _PATH_STEPS)]
    for point in points:
        texts = [_text(axes, point, x * d, y * d) for d, (x, y) in product(_DISTANCES, _OFFSETS)]
        boxes = [text.get_window_extent() for text in texts]
        costs = [_cost(box, taken, axes.bbox) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        for text in texts[:best] + texts[best + 1 :]:
            text.remove()


def _spots(axes: Axes, points: Sequence[Point]) -> NDArray[np.float64]:
    """Where points lie in dots, [P, 2]."""
    places = np.array([(point.x, point.y) for point in points], np.float64).reshape(-1, 2)
    spots: NDArray[np.float64] = axes.transData.transform(places)
    return spots


def _box_around(x: float, y: float, side: float) -> Bbox:
    return Bbox.from_bounds(x - side / 2, y - side / 2, side, side)


def _text(axes: Axes, point: Point, right: float, up: float) -> Any:
    return axes.annotate(
        point.text,
        (point.x, point.y),
        xytext=(right, up),
        textcoords="offset points",
        ha="center" if right == 0 else "left" if right > 0 else "right",
        va="center",
        color=point.colour,
        fontsize=9 if point.block_count is None else 8,
        parse_math=False,  # a row may be called "$50"
    )


def _cost(box: Bbox, taken: Iterable[Bbox], inside: Bbox) -> int:
    is_inside = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    return sum(box.overlaps(other) for other in taken) + 100 * (not is_inside)
