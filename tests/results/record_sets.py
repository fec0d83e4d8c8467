"""A checked-in set of 145 sealed records, in the shape of Table 1: 7 rows x 4 fractions x 5 seeds, and one row in full.

The records lie in one file (`zcat`), a line each with path and content, and are put into a storage as training leaves
them. They are kept, not renewed: a table must come out of records that are as old as they are. Their scores are
invented, near to the published ones. To make them anew after all: `python -m tests.results.record_sets`.
"""

import gzip
import json
import random
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path

from results.published import published_table
from tests.results.builders import CellStub, RowStub, TableStub, digests
from trainer.consistency import ious_of
from trainer.records import (
    EvaluationRecord,
    Manifest,
    Record,
    Result,
    attempt_path,
    trial_path,
)
from trainer.spec import NAMED_METHODS, Evaluation, Synthetic, TinyNetwork, TrialSpec
from trainer.storage import Storage

RECORDS = Path(__file__).parents[1] / "golden" / "tables" / "table1" / "records.jsonl.gz"
ATTEMPT = "20260101T000000-00000001"
CLASSES = ("road", "sky", "car")
IMAGES = {Fraction(1, 30): 100, Fraction(1, 8): 372, Fraction(1, 4): 744, Fraction(1, 2): 1488, Fraction(1): 2975}
METHODS = {
    "Supervised": "supervised",
    "Adversarial": "adversarial",
    "s4GAN": "s4gan",
    "DST-CBC": "dst_cbc",
    "French et al. (CutMix)": "french",
    "ClassMix": "classmix",
    "ComplexMix": "complexmix",
}
_UNPUBLISHED = {Fraction(1, 30): 47.0, Fraction(1, 2): 65.0}
_ABOVE = {("ComplexMix", Fraction(1, 8)): 2.0, ("ComplexMix", Fraction(1, 2)): 0.4}  # one leads, one is within spread
GROUPS = (1, 2, 2, 2, 3, 3, 4)


@dataclass(frozen=True)
class Table1Stub(TableStub):
    """Real methods on the small network, judged once, at the end."""

    def cells(self) -> tuple[CellStub, ...]:
        places = product(self.rows, self.fractions, self.seeds)
        return tuple(
            CellStub(row.label, fraction, seed, spec_of(row.label, fraction, seed))
            for row, fraction, seed in places
            if fraction < 1 or row.label == "Supervised"
        )


TABLE1 = Table1Stub(
    rows=tuple(RowStub(label, group) for label, group in zip(METHODS, GROUPS, strict=True)),
    fractions=tuple(IMAGES),
    seeds=(0, 1, 2, 3, 4),
    name="table1_stub",
    title="Invented scores in the shape of Table 1",
    published="complexmix_table1",
    reference_row="Supervised",
)


def spec_of(label: str, fraction: Fraction, seed: int) -> TrialSpec:
    return TrialSpec(
        dataset=Synthetic(),
        network=TinyNetwork(),
        initial_weights="random",
        method=NAMED_METHODS[METHODS[label]],
        label_fraction=fraction,
        evaluation=Evaluation(every=40_000),
        seed=seed,
    )


def unpack(storage: Storage) -> None:
    """Put the checked-in records into a storage."""
    for line in gzip.decompress(RECORDS.read_bytes()).splitlines():
        path, content = json.loads(line)
        storage.write(path, json.dumps(content).encode())


# --- making them --------------------------------------------------------------------------------------------------


def make_records() -> str:
    """The lines of RECORDS."""
    draws = random.Random(0)
    lines = [line for cell in TABLE1.cells() for line in _lines_of(cell, draws)]
    return "".join(f"{line}\n" for line in lines)


def _lines_of(cell: CellStub, draws: random.Random) -> list[str]:
    score = published_table("complexmix_table1").find(cell.row, cell.label_fraction)
    near = float(score.mean) if score and score.mean is not None else _UNPUBLISHED[cell.label_fraction]
    near += _ABOVE.get((cell.row, cell.label_fraction), 0.0)
    networks = ("student",) if cell.spec.method.teacher_start is None else ("student", "teacher")
    judged = tuple(_judged(network, near / 100 + draws.gauss(0.002, 0.007)) for network in networks)
    manifest, result = _manifest(cell), _result(cell, judged)
    return [
        _line(attempt_path(cell.trial_id, ATTEMPT, "manifest.json"), manifest),
        _line(trial_path(cell.trial_id, "result.json"), result),
    ]


def _line(path: str, record: Record) -> str:
    return json.dumps([path, json.loads(record.sealed())], separators=(",", ":"))


def _judged(network: str, mean: float) -> EvaluationRecord:
    """Counts in thousands of pixels whose mean IoU is about `mean`; classes lie ten points apart."""
    counts = [[50_000] * 3 for _ in CLASSES]
    for index, iou in enumerate((mean + 0.1, mean, mean - 0.1)):
        counts[index][index] = round(4 * 50_000 * iou / (1 - iou))
    ious = ious_of(counts)
    return EvaluationRecord(
        step=40_000,
        time=0.0,
        network=network,
        confusion=tuple(map(tuple, counts)),
        class_iou=tuple(ious),
        mean_iou=sum(ious) / 3,
        num_undefined=0,
        eval_size=(Synthetic().height, Synthetic().width),
    )


def _manifest(cell: CellStub) -> Manifest:
    return Manifest(
        trial_id=cell.trial_id,
        attempt=ATTEMPT,
        started=1.0,
        resumed_from_step=0,
        resumed_from_attempt=None,
        digests=digests(),
        versions={"torch": "2.11.0"},
        host="node",
        pid=1,
        device="cpu",
        world_size=1,
        threads=1,
        options={},
        class_names=CLASSES,
        num_labeled=IMAGES[cell.label_fraction],
        num_unlabeled=0,
        labeled_names=(),
    )


def _result(cell: CellStub, judged: tuple[EvaluationRecord, ...]) -> Result:
    return Result(
        trial_id=cell.trial_id,
        attempt=ATTEMPT,
        num_steps=40_000,
        finished=2.0,
        wall_seconds=1.0,
        spec=cell.spec.model_dump(mode="json"),
        class_names=CLASSES,
        digests=digests(),
        evaluations=judged,
        segments=(),
        weights_sha256=None,
    )


if __name__ == "__main__":
    RECORDS.parent.mkdir(parents=True, exist_ok=True)
    RECORDS.write_bytes(gzip.compress(make_records().encode(), mtime=0))
