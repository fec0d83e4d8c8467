"""A table with every kind of cell: complete, leading, stale, partial, failed, running, missing, undefined, damaged."""

from results.aggregate import Selection, selections_of
from results.compute import ComputedTable, compute_table
from tests.results.builders import (
    EIGHTH,
    FULL,
    QUARTER,
    RowStub,
    TableStub,
    judged,
    put_done,
    put_failed,
    put_partial,
    put_score,
    read,
    spec_of,
)
from trainer.records import trial_path
from trainer.storage import Storage

HOSTILE = "[50%]* & a_b #1 $x$ {y} ~^\\\nnext|<b>line</b>"
TABLE = TableStub(
    rows=(RowStub("Supervised"), RowStub("ClassMix", 2), RowStub("ComplexMix", 2), RowStub(HOSTILE, 3)),
    fractions=(EIGHTH, QUARTER, FULL),
    published="complexmix_table1",
    reference_row="Supervised",
)
RUNNING = frozenset({spec_of(HOSTILE, QUARTER, 0).trial_id})
STALE = {
    spec_of("ClassMix", EIGHTH, 0).trial_id: "code changed: trainer/losses.py",
    spec_of("ClassMix", EIGHTH, 2).trial_id: "code changed: trainer/losses.py",
}

OWN = TableStub(
    rows=(
        RowStub("Supervised"),
        RowStub("ClassMix", 2, selection="best"),
        RowStub("ComplexMix", 2, reported_network="teacher"),
    ),
    fractions=(EIGHTH,),
    reference_row="Supervised",
)
"""Rows that are judged by selections of their own."""


def fill(storage: Storage) -> None:
    for seed in (0, 1, 2):
        for fraction in (EIGHTH, QUARTER, FULL):
            put_score(storage, "Supervised", fraction, seed, 0.5 + seed / 64 + float(fraction) / 8)
        put_score(storage, "ComplexMix", EIGHTH, seed, 0.75 - seed / 128)
        put_score(storage, "ClassMix", EIGHTH, seed, 0.875 - seed / 128)
    put_score(storage, "ClassMix", QUARTER, 0, 0.625)
    put_done(storage, spec_of("ClassMix", QUARTER, 1), judged(20, None))
    put_score(storage, "ClassMix", QUARTER, 2, 0.6875)
    put_done(storage, spec_of("ComplexMix", QUARTER, 0), judged(20, 0.625, classes=(0.5, None, 0.75)))
    put_failed(storage, spec_of("ComplexMix", QUARTER, 1))
    put_partial(storage, spec_of(HOSTILE, EIGHTH, 1), judged(10, 0.875))
    put_score(storage, HOSTILE, EIGHTH, 2, 0.5)
    path = trial_path(spec_of(HOSTILE, EIGHTH, 2).trial_id, "result.json")
    storage.write(path, storage.read(path).replace(b"0.5", b"0.9"))


def compute_holes(storage: Storage, table: TableStub = TABLE, selection: Selection | None = None) -> ComputedTable:
    frames = read(storage, table, running=RUNNING, stale=STALE)
    return compute_table(frames, table, selection or Selection())


def compute_own(storage: Storage) -> ComputedTable:
    """The table OWN, whose ClassMix was better half way."""
    for seed in (0, 1, 2):
        put_score(storage, "Supervised", EIGHTH, seed, 0.5 + seed / 100)
        put_score(storage, "ComplexMix", EIGHTH, seed, 0.6 + seed / 100)
        put_done(storage, spec_of("ClassMix", EIGHTH, seed), judged(10, 0.9), judged(20, 0.7))
    selection, by_row = selections_of(OWN)
    return compute_table(read(storage, OWN), OWN, selection, by_row=by_row)
