"""The plots of a table: scores, learning, shares of pixels, classes. Knows what is drawn, not where it goes.

Drawn on axes that are given, without pyplot and its state. What is drawn is also said in words.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from results.class_plots import class_plot, gain_plot
from results.compute import ComputedTable
from results.frame import Frames
from results.layout import header
from results.plot_output import Panel, Plot
from results.plot_style import Look, fraction_look, row_look
from results.series import (
    SHARES,
    Point,
    Series,
    class_scores,
    learning_series,
    score_series,
    share_series,
)

_DODGE = 0.011
_LEARNING_MARKS = 6
_MOST_BANDS = 3  # more of them hide each other


@dataclass(frozen=True)
class _Looks:
    """The looks of a table's rows and fractions, and how fractions are headed."""

    rows: Mapping[str, Look]
    fractions: Mapping[str, Look]
    heads: Mapping[str, str]


def _looks_of(table: ComputedTable) -> _Looks:
    in_order = sorted(table.fractions, key=Fraction)
    return _Looks(
        rows={line.label: row_look(index) for index, line in enumerate(table.lines)},
        fractions={fraction: fraction_look(index, len(in_order)) for index, fraction in enumerate(in_order)},
        heads=dict(zip(table.fractions, header(table)[1:], strict=True)),
    )


def plots_of(table: ComputedTable, frames: Frames, curves: pd.DataFrame) -> tuple[Plot, ...]:
    """Every plot for which there is something to draw; see `ReportParts` for `curves`."""
    looks, classes = _looks_of(table), class_scores(table)
    plots = (
        _score_plot(table, looks),
        _learning_plot(learning_series(frames), looks),
        _share_plot(share_series(curves), looks),
        class_plot(classes, looks.heads),
        gain_plot(classes, looks.heads),
    )
    return tuple(plot for plot in plots if plot.panels)


# --- mean IoU against the label fraction --------------------------------------------------------------------------


def _score_plot(table: ComputedTable, looks: _Looks) -> Plot:
    series = score_series(table)
    has_published = any(one.kind == "published" for one in series)
    legend = [(row, look) for row, look in looks.rows.items() if any(one.row == row for one in series)]
    if has_published:
        legend.append(("hollow, dotted: as published", Look(row_look(0).colour, "o", ":", is_hollow=True)))
    title = "Mean IoU against the share of labelled images"
    draw = _draw_scores if len(table.fractions) > 1 else _draw_dots
    panels = [Panel(title, _words_of_scores(series, looks), partial(draw, series=series, looks=looks))]
    return Plot(
        "miou-by-fraction", title, tuple(panels if series else ()), tuple(legend), num_columns=1, size=(4.4, 3.3)
    )


def _draw_scores(axes: Axes, *, series: Sequence[Series], looks: _Looks) -> None:
    """Lines over a logarithmic axis; rows stand a little beside each other so that spreads can be seen."""
    span = max(map(_x_of, looks.heads)) / min(map(_x_of, looks.heads))
    rows = list(looks.rows)
    for one in series:
        shift = span ** (_DODGE * (rows.index(one.row) - (len(rows) - 1) / 2))
        look = looks.rows[one.row]
        look = replace(look, dash=":", is_hollow=True) if one.kind == "published" else look
        _draw_with_spread(axes, [replace(point, x=point.x * shift) for point in one.points], look)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([_x_of(fraction) for fraction in looks.heads]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_heads_at_ticks(looks.heads))
    axes.set_xlabel("label fraction (labelled images), logarithmic")
    axes.margins(x=0.08)
    _dress(axes)


def _heads_at_ticks(heads: Mapping[str, str]) -> FuncFormatter:
    texts = {_x_of(fraction): head.replace(" (", "\n(") for fraction, head in heads.items()}
    return FuncFormatter(lambda value, _: next(text for x, text in texts.items() if math.isclose(x, value)))


def _x_of(fraction: str) -> float:
    return float(Fraction(fraction))


def _draw_with_spread(axes: Axes, points: Sequence[Point], look: Look) -> None:
    xs, means = [point.x for point in points], [point.mean for point in points]
    stds = [0.0 if math.isnan(point.std) else point.std for point in points]
    axes.errorbar(xs, means, yerr=stds, fmt="none", ecolor=look.colour, elinewidth=1, capsize=2.5)
    axes.plot(xs, means, **look.options())


def _draw_dots(axes: Axes, *, series: Sequence[Series], looks: _Looks) -> None:
    """With one label fraction there is no line to draw: a row a line, mean and spread across."""
    rows = [row for row in looks.rows if any(one.row == row for one in series)]
    for one in series:
        point, look = one.points[0], looks.rows[one.row]
        look = replace(look, is_hollow=True) if one.kind == "published" else look
        place = rows.index(one.row) + (0.25 if one.kind == "published" else 0.0)
        std = 0.0 if math.isnan(point.std) else point.std
        axes.errorbar([point.mean], [place], xerr=[std], fmt="none", ecolor=look.colour, elinewidth=1, capsize=2.5)
        axes.plot([point.mean], [place], **look.options())
    axes.yaxis.set_major_locator(FixedLocator(list(range(len(rows)))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda _, place: rows[place]))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"mean IoU (%) at label fraction {next(iter(looks.heads.values()))}")
    axes.grid(visible=True, axis="x")


def _dress(axes: Axes, label: str = "mean IoU (%)") -> None:
    axes.set_ylabel(label)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(visible=True, axis="y")


def _words_of_scores(series: Iterable[Series], looks: _Looks) -> str:
    heads = {_x_of(fraction): head for fraction, head in looks.heads.items()}
    said = []
    for one in series:
        values = ", ".join(f"{_with_std(point)} at {heads[point.x]}" for point in one.points)
        said.append(f"{one.row}{' as published' if one.kind == 'published' else ''}: {values}.")
    return " ".join(["Percent, mean ± standard deviation.", *said])


def _with_std(point: Point) -> str:
    return f"{point.mean:.2f}" if math.isnan(point.std) else f"{point.mean:.2f} ± {point.std:.2f}"


# --- against the step ---------------------------------------------------------------------------------------------


def _learning_plot(series: Sequence[Series], looks: _Looks) -> Plot:
    """A panel for each row: its label fractions by colour, the student solid, the teacher dashed and hollow."""
    present = {one.label_fraction for one in series}
    legend = [(f"student, {looks.heads[name]}", look) for name, look in looks.fractions.items() if name in present]
    if any(one.kind == "teacher" for one in series):
        legend.append(("dashed, hollow: teacher", Look(row_look(0).colour, "o", "--", is_hollow=True)))
    limits = _limits(series)
    panels = [
        Panel(row, _words_of_steps(lines, looks), partial(_draw_learning, series=lines, looks=looks, limits=limits))
        for row, lines in _by(series, looks.rows, "row")
    ]
    return Plot("learning-curves", "Learning of student and teacher", tuple(panels), tuple(legend))


def _draw_learning(axes: Axes, *, series: Sequence[Series], looks: _Looks, limits: tuple[float, float]) -> None:
    for one in series:
        look = looks.fractions[one.label_fraction]
        is_teacher = one.kind == "teacher"
        look = replace(look, dash="--", is_hollow=True) if is_teacher else look
        _draw_over_steps(axes, one.points, look, with_spread=not is_teacher)
    axes.set_ylim(limits)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _dress(axes)


def _draw_over_steps(axes: Axes, points: Sequence[Point], look: Look, *, with_spread: bool) -> None:
    xs, means = ([getattr(point, name) for point in points] for name in ("x", "mean"))
    if with_spread:
        spread = np.nan_to_num([point.std for point in points])
        low, high = np.subtract(means, spread), np.add(means, spread)
        axes.fill_between(xs, low, high, color=look.colour, alpha=0.12, linewidth=0)
    axes.plot(xs, means, markevery=max(1, len(xs) // _LEARNING_MARKS), **look.options())


def _limits(series: Iterable[Series]) -> tuple[float, float]:
    """The same height for every panel: from 0 or a little below what is drawn to a little above it."""
    means = [point.mean for one in series for point in one.points]
    if not means:
        return 0.0, 1.0
    margin = 0.06 * (max(means) - min(means)) + 0.5
    return max(0.0, min(means) - margin), max(means) + margin


def _share_plot(series: Sequence[Series], looks: _Looks) -> Plot:
    """A panel for each share and label fraction, a line for each row whose method logs it."""
    solid = replace(looks, rows={row: replace(look, dash="-") for row, look in looks.rows.items()})
    panels = [panel for name, title in SHARES.items() for panel in _panels_of_share(name, title, series, solid)]
    legend = [(row, look) for row, look in solid.rows.items() if any(one.row == row for one in series)]
    columns = max(1, len({one.label_fraction for one in series}))
    return Plot("confidence-and-masks", "Confident pixels and mask area", tuple(panels), tuple(legend), columns)


def _panels_of_share(name: str, title: str, series: Iterable[Series], looks: _Looks) -> Iterator[Panel]:
    of_name = [one for one in series if one.kind == name]
    limits = (0.0, _limits(of_name)[1])
    for fraction, lines in _by(of_name, looks.fractions, "label_fraction"):
        draw = partial(_draw_shares, series=lines, looks=looks, label=f"{title.lower()} (%)", limits=limits)
        yield Panel(f"{title}, {looks.heads[fraction]}", _words_of_steps(lines, looks), draw)


def _draw_shares(
    axes: Axes, *, series: Sequence[Series], looks: _Looks, label: str, limits: tuple[float, float]
) -> None:
    for one in series:
        _draw_over_steps(axes, one.points, looks.rows[one.row], with_spread=len(series) <= _MOST_BANDS)
    axes.set_ylim(limits)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _dress(axes, label)


def _by(series: Iterable[Series], order: Iterable[str], field: str) -> Iterator[tuple[str, list[Series]]]:
    """Series by one of their fields, in an order; only where there are some."""
    places = list(order)
    ordered = sorted(series, key=lambda one: places.index(getattr(one, field)))
    for name, lines in groupby(ordered, key=lambda one: str(getattr(one, field))):
        yield name, list(lines)


def _words_of_steps(series: Iterable[Series], looks: _Looks) -> str:
    said = []
    for one in series:
        first, last, best = one.points[0], one.points[-1], max(one.points, key=lambda point: point.mean)
        name = f"{one.row}" if one.kind in SHARES else f"{one.kind.capitalize()}, {looks.heads[one.label_fraction]}"
        peak = f", highest {best.mean:.1f} at {best.x:.0f}" if best.x not in (first.x, last.x) else ""
        said.append(f"{name}: {first.mean:.1f} percent at step {first.x:.0f}, {last.mean:.1f} at {last.x:.0f}{peak}.")
    return " ".join(said)
