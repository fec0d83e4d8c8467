"""A small table with every kind of cell, its curves and its pictures, and the report made of them."""

import io
from dataclasses import dataclass
from fractions import Fraction

import pandas as pd
from PIL import Image

from results.aggregate import Selection
from results.compute import ComputedTable, compute_table
from results.frame import Frames
from results.plots import plots_of
from results.report import ReportParts
from tests.results.builders import (
    EIGHTH,
    QUARTER,
    RowStub,
    TableStub,
    judged,
    put_done,
    put_failed,
    put_partial,
    read,
    spec_of,
)
from trainer.storage import Storage

TABLE = TableStub(
    rows=(RowStub("Supervised"), RowStub("ClassMix", 2), RowStub("ComplexMix", 3)),
    seeds=(0, 1),
    title="Scenes & <streets>",
    published="complexmix_table1",
    reference_row="Supervised",
)
# Road, sky and car at the last step, by row, label fraction and seed; no car at all in one of them.
IOUS: dict[tuple[str, Fraction, int], tuple[float | None, ...]] = {
    ("Supervised", EIGHTH, 0): (0.5, 0.4, 0.3),
    ("Supervised", EIGHTH, 1): (0.7, 0.6, 0.2),
    ("Supervised", QUARTER, 0): (0.7, 0.5, 0.3),
    ("ClassMix", EIGHTH, 0): (0.7, 0.5, None),
    ("ClassMix", EIGHTH, 1): (0.7, 0.6, 0.5),
    ("ClassMix", QUARTER, 0): (0.8, 0.6, 0.4),
    ("ClassMix", QUARTER, 1): (0.8, 0.6, 0.4),
    ("ComplexMix", EIGHTH, 0): (0.6, 0.5, 0.4),
}


def fill(storage: Storage) -> None:
    """Eight done trials, one stopped half way, one failed, two missing."""
    for (row, fraction, seed), ious in IOUS.items():
        defined = [iou for iou in ious if iou is not None]
        last = judged(20, sum(defined) / len(defined), classes=ious)
        put_done(storage, spec_of(row, fraction, seed), judged(10, 0.25), last)
    put_partial(storage, spec_of("Supervised", QUARTER, 1))
    put_failed(storage, spec_of("ComplexMix", EIGHTH, 1))


def curves(rows: tuple[str, ...] = ("ClassMix", "ComplexMix")) -> pd.DataFrame:
    """What these rows of two that mix log at three steps, the second seed 0.1 above the first."""
    lines = [
        (spec_of(row, EIGHTH, seed).trial_id, row, "1/8", seed, step, name, value + seed / 10)
        for row in ("ClassMix", "ComplexMix")
        if row in rows
        for seed in (0, 1)
        for step, value in ((5, 0.2), (10, 0.4), (20, 0.6))
        for name in ("confident_fraction", "mask_area", "unlabeled_loss")
    ]
    return pd.DataFrame(lines, columns=["trial_id", "row", "label_fraction", "seed", "step", "name", "value"])


def computed(storage: Storage, table: TableStub = TABLE) -> tuple[ComputedTable, Frames]:
    """The table and its frames; the first trial of ClassMix at 1/8 is stale."""
    frames = read(storage, table, stale={spec_of("ClassMix", EIGHTH, 0).trial_id: "code changed since"})
    return compute_table(frames, table, Selection(), counts={EIGHTH: 30, QUARTER: 60}), frames


@dataclass(frozen=True)
class HoursStub:
    device: str = "cpu (x86_64)"
    unit: str = "CPU-thread-hours"
    used_hours: float = 1.5
    lost_hours: float = 0.25
    open_hours: float = 0.125


@dataclass(frozen=True)
class PictureStub:
    title: str
    row: str
    kind: str
    image_name: str
    png: bytes


def picture(title: str, kind: str, row: str = "", image_name: str = "street 1") -> PictureStub:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "teal").save(buffer, format="PNG")
    return PictureStub(title, row, kind, image_name, buffer.getvalue())


PICTURES = (
    picture("Image", "image"),
    picture("Truth", "truth"),
    picture("Prediction", "prediction", "ClassMix"),
    picture("Errors", "error", "ClassMix"),
    picture("Mask", "mask", "ClassMix", "pair"),
    picture("Mix", "mix", "ClassMix", "pair"),
)


def parts_of(storage: Storage, table: TableStub = TABLE, **others: object) -> ReportParts:
    """The parts of a report of whatever the storage holds."""
    result, frames = computed(storage, table)
    given: dict[str, object] = {
        "plots": plots_of(result, frames, curves(tuple(row.label for row in table.rows))),
        "statistics": ("ClassMix is above Supervised.",),
        "hours": (HoursStub(),),
        "compute_statement": "All in all 1.5 CPU-hours.",
        "origins": {spec_of("ClassMix", EIGHTH, 0).trial_id: (("made by", "mixgrid train <spec>"),)},
        "pictures": PICTURES,
        "files": (("Table", ("table.csv", "table.tex")),),
    }
    return ReportParts(result, frames, **{**given, **others})  # type: ignore[arg-type]
