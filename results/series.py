"""What plots show: points by row, label fraction and step, seeds brought together. Knows no picture and no format."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import pandas as pd

from results.aggregate import mean_and_std
from results.compute import ComputedTable, Line
from results.frame import Frames
from trainer.spec import MEAN

SHARES: Mapping[str, str] = {
    "confident_fraction": "Confident share",
    "mask_area": "Mask area",
}
"""Training scalars that are shares of pixels (of images, for s4GAN's confident ones), and what they are called."""


_MOST_POINTS = 100


@dataclass(frozen=True, slots=True)
class Point:
    """Mean and sample std over `n` seeds at one x; the std is NaN where n is one."""

    x: float
    mean: float
    std: float
    n: int


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one row, in order of x; `label_fraction` is "" where x itself is one.

    `kind` tells lines of a row apart: "ours" and "published" for scores, "student" and "teacher" for learning, a
    scalar's name for shares.
    """

    row: str
    label_fraction: str
    kind: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """IoU by row and class at one label fraction, in [0, 1], NaN where undefined or not there; `gain` over `reference`.

    `gain` is the mean over the seeds that both rows have; empty where the table has no reference row.
    """

    label_fraction: str
    classes: tuple[str, ...]
    iou: Mapping[str, tuple[float, ...]]
    gain: Mapping[str, tuple[float, ...]]
    reference: str | None


def score_series(table: ComputedTable) -> tuple[Series, ...]:
    """Mean IoU in percent against the label fraction; published values too, unless this is a demonstration."""
    ours = [Series(line.label, "", "ours", tuple(_our_points(table, line))) for line in table.lines]
    published = [Series(line.label, "", "published", tuple(_published_points(table, line))) for line in table.lines]
    drawn = [*ours, *([] if table.is_demonstration else published)]
    return tuple(series for series in drawn if series.points)


def _our_points(table: ComputedTable, line: Line) -> Iterator[Point]:
    for fraction, cell in sorted(zip(table.fractions, line.cells, strict=True), key=lambda pair: Fraction(pair[0])):
        if cell is not None and cell.n:
            yield Point(float(Fraction(fraction)), 100 * cell.mean, 100 * cell.std, cell.n)


def _published_points(table: ComputedTable, line: Line) -> Iterator[Point]:
    for fraction, score in sorted(
        zip(table.fractions, line.published, strict=True), key=lambda pair: Fraction(pair[0])
    ):
        if score is not None and score.mean is not None:
            std = math.nan if score.std is None else float(score.std)
            yield Point(float(Fraction(fraction)), float(score.mean), std, score.n or 0)


def learning_series(frames: Frames) -> tuple[Series, ...]:
    """Mean IoU in percent against the step of every network of the done trials."""
    done = frames.cells.loc[frames.cells["state"] == "done", "trial_id"]
    means = frames.results[(frames.results["class_name"] == MEAN) & frames.results["trial_id"].isin(done)]
    return _over_steps(means.assign(value=100 * means["iou"]), kind="network")


def share_series(curves: pd.DataFrame) -> tuple[Series, ...]:
    """Shares of pixels in percent against the step, for each of SHARES that a row's method logs, in at most 100 points.

    Args:
        curves: training scalars: row, label_fraction, seed, step, name, value, each a mean since the step before.
    Returns: points that are means since the point before.
    """
    shares = curves[curves["name"].isin(list(SHARES))]
    ends = _ends_of_stretches(shares["step"])
    stretches = shares.assign(step=shares["step"].map(ends), value=100 * shares["value"])
    means = stretches.groupby(["row", "label_fraction", "name", "seed", "step"], sort=False)["value"].mean()
    return _over_steps(means.reset_index(), kind="name")


def _ends_of_stretches(steps: pd.Series) -> dict[int, int]:
    """For each step the last one of its stretch, all stretches but the last being equally long."""
    ordered = sorted(set(steps.tolist()))
    length = -(-len(ordered) // _MOST_POINTS)
    return {step: ordered[min(i - i % length + length, len(ordered)) - 1] for i, step in enumerate(ordered)}


def _over_steps(values: pd.DataFrame, *, kind: str) -> tuple[Series, ...]:
    lines = values.dropna(subset=["value"]).groupby(["row", "label_fraction", kind], sort=False)
    return tuple(
        Series(str(row), str(fraction), str(name), tuple(_steps(found))) for (row, fraction, name), found in lines
    )


def _steps(lines: pd.DataFrame) -> Iterator[Point]:
    for step, values in lines.groupby("step")["value"]:
        found = values.tolist()
        yield Point(float(str(step)), *mean_and_std(found), len(found))


def class_scores(table: ComputedTable) -> tuple[ClassScores, ...]:
    """IoU of every class at the chosen steps, a value for each label fraction at which a trial is done."""
    networks = {line.label: line.networks for line in table.lines}
    chosen = table.chosen[table.chosen["class_name"] != MEAN]
    pairs = zip(chosen["row"], chosen["network"], strict=True)
    judged = pd.Series([network in networks.get(row, ()) for row, network in pairs], chosen.index, dtype=bool)
    by_fraction = chosen[judged].groupby("label_fraction", sort=False)
    found = {str(fraction): lines for fraction, lines in by_fraction}
    return tuple(_class_scores(table, fraction, found[fraction]) for fraction in table.fractions if fraction in found)


def _class_scores(table: ComputedTable, fraction: str, lines: pd.DataFrame) -> ClassScores:
    classes = tuple(lines["class_name"].unique())
    by_row = {
        str(row): part.pivot(index="class_name", columns="seed", values="iou").reindex(classes)
        for row, part in lines.groupby("row", sort=False)
    }
    ordered = {line.label: by_row[line.label] for line in table.lines if line.label in by_row}
    reference = table.reference_row if table.reference_row in ordered else None
    others = {row: ious for row, ious in ordered.items() if reference is not None and row != reference}
    return ClassScores(
        fraction,
        classes,
        iou={row: tuple(ious.mean(axis=1).tolist()) for row, ious in ordered.items()},
        # seeds of one row alone are NaN in the difference, and no mean counts them
        gain={row: tuple((ious - ordered[str(reference)]).mean(axis=1).tolist()) for row, ious in others.items()},
        reference=reference,
    )
