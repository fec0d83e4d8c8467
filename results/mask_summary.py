"""Statistics of masks as words and CSV: means over images and their spread. Writes nothing."""

import csv
import io
from dataclasses import dataclass
from math import isfinite

from results.aggregate import mean_and_std
from results.escaping import escape_csv
from trainer.mask_statistics import MIN_OBJECT_PIXELS, MaskSurvey, MeasuredMask


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic as it is shown: field, heading with unit, factor from the recorded number to that unit, decimals."""

    field: str
    heading: str
    factor: float
    decimals: int


COMPLEXITY = Statistic("edge_length", "edges per pixel", 1, 4)
ARTIFICIAL = Statistic("artificial_edge_share", "edges off label borders (%)", 100, 1)
STATISTICS = (
    Statistic("area_share", "area (%)", 100, 1),
    Statistic("num_parts", "parts", 1, 0),
    COMPLEXITY,
    ARTIFICIAL,
    Statistic("ignored_edge_share", "edges left out (%)", 100, 1),
    Statistic("cut_object_share", "objects cut (%)", 100, 1),
)


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and sample standard deviation over the `n` images on which a statistic is defined; nan where it is not."""

    mean: float
    std: float
    n: int


def summary_of(mask: MeasuredMask, field: str) -> Summary:
    """Over the images of a mask; those without a single edge, or object, have no share of them and are left out."""
    values = [float(getattr(image, field)) for image in mask.images]
    defined = [value for value in values if isfinite(value)]
    return Summary(*mean_and_std(defined), len(defined))


# --- words --------------------------------------------------------------------------------------------------------


def header() -> list[str]:
    """The headings of `rows`."""
    return ["mask", *(statistic.heading for statistic in STATISTICS)]


def rows(survey: MaskSurvey) -> list[list[str]]:
    """A line per mask: mean ± std of each statistic, with n where it is not that of the survey."""
    return [[mask.name, *(_cell(mask, statistic) for statistic in STATISTICS)] for mask in survey.masks]


def _cell(mask: MeasuredMask, statistic: Statistic) -> str:
    found = summary_of(mask, statistic.field)
    if found.n == 0:
        return "none"
    mean, std = (f"{value * statistic.factor:.{statistic.decimals}f}" for value in (found.mean, found.std))
    text = mean if found.n == 1 else f"{mean} ± {std}"
    return text if found.n == len(mask.images) else f"{text} (n = {found.n})"


def caption(survey: MaskSurvey) -> list[str]:
    """What the numbers are, a sentence a line."""
    lines = [
        f"Mean ± sample std over n = {survey.num_images} images of {place(survey)}, drawn by seed {survey.seed}.",
        "Masks are drawn from true labels (ignored pixels filled from the nearest label), without training: an upper "
        "bound of the correctness that a teacher's class map would give.",
        "An edge is a pair of 4-neighbours of which the mask keeps one; it lies off label borders where both have the "
        "same label in image a; pairs with an ignored pixel are left out of that share.",
        "Parts are the 4-connected ones of the mask and of its complement. An object is a 4-connected part of one "
        f"label of at least {MIN_OBJECT_PIXELS} pixels, cut where the mask keeps some of it and not all.",
    ]
    if survey.left_out:
        lines.append(f"Not measured: {', '.join(survey.left_out)} (blends both images everywhere and has no mask).")
    return lines


def place(survey: MaskSurvey) -> str:
    """Dataset, split and size in words."""
    return f"{survey.dataset} {survey.split} at {survey.height} x {survey.width}"


# --- csv ----------------------------------------------------------------------------------------------------------


def format_csv(survey: MaskSurvey) -> str:
    """A line per mask; mean, std and n of each statistic in full precision, shares in [0, 1], edges per pixel."""
    names = [f"{statistic.field}_{what}" for statistic in STATISTICS for what in ("mean", "std", "n")]
    where = ["dataset", "split", "height", "width", "seed", "num_images"]
    shown = [survey.dataset, survey.split, survey.height, survey.width, survey.seed, survey.num_images]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["mask", "family", "block_count", *names, *where])
    for mask in survey.masks:
        values = [value for statistic in STATISTICS for value in _exact(summary_of(mask, statistic.field))]
        count = "" if mask.block_count is None else mask.block_count
        writer.writerow([escape_csv(mask.name), mask.family, count, *values, *shown])
    return text.getvalue()


def _exact(found: Summary) -> list[str]:
    return [*(repr(value) if isfinite(value) else "" for value in (found.mean, found.std)), str(found.n)]
