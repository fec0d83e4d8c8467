"""A storage full of finished trials, as large as real ones are: to measure what reads a whole grid.

`python -m tests.many_trials FOLDER` fills a folder with Table 1 at 35 seeds, 1,015 trials, each with two attempts and
20 evaluations per network of 19 classes; `mixgrid status table1 --seeds 0-34 --set evaluation.every=2000` reads it.
"""

import sys
import time
from collections.abc import Iterator

import numpy as np

from experiments.table import Table
from experiments.table1 import TABLE1
from results.glance import leave_glance
from trainer.consistency import ious_of
from trainer.records import (
    Digests,
    EvaluationRecord,
    Manifest,
    ProgressRecord,
    Record,
    Result,
    Segment,
    TrainRecord,
    attempt_path,
    trial_path,
    write_segment,
)
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage

CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
ATTEMPTS = ("20260101T000000-000001-aaaaaaaa", "20260101T060000-000001-bbbbbbbb")
DIGESTS = Digests(code="c0de" * 16, data="da7a" * 16, split="5b11" * 16, weights="41f3" * 16, precision="float32")
STARTED = (1_767_225_600.0, 1_767_247_200.0)


def large_table(num_seeds: int = 35, every: int = 2000) -> Table:
    """Table 1 with many seeds: 29 trials for each."""
    return TABLE1.changed([f"evaluation.every={every}"]).selected(seeds=f"0-{num_seeds - 1}")


def put_many(storage: Storage, table: Table, *, with_curves: bool = False) -> None:
    """Finish every trial of a table, without training it; their attempts begin well before, as those of real ones."""
    for cell in table.cells():
        put_attempts(storage, cell.spec)
    time.sleep(3.0)  # a file that is younger than two seconds is looked at otherwise
    for number, cell in enumerate(table.cells()):
        put_result(storage, cell.spec, np.random.default_rng(number), with_curves=with_curves)


def put_trial(storage: Storage, spec: TrialSpec, rng: np.random.Generator, *, with_curves: bool = False) -> None:
    """Begin a trial and finish it, without training it."""
    put_attempts(storage, spec)
    put_result(storage, spec, rng, with_curves=with_curves)


def put_attempts(storage: Storage, spec: TrialSpec) -> None:
    """What the attempts at a trial leave before its result."""
    for number in range(len(ATTEMPTS)):
        manifest = _manifest(spec, number)
        storage.write(attempt_path(spec.trial_id, manifest.attempt, "manifest.json"), manifest.sealed())
        progress = _progress(manifest, spec.num_steps)
        storage.write(attempt_path(spec.trial_id, manifest.attempt, "progress.json"), progress.sealed())


def put_result(storage: Storage, spec: TrialSpec, rng: np.random.Generator, *, with_curves: bool = False) -> None:
    """The result of a trial, and the glance that whatever finishes one leaves."""
    trial_id = spec.trial_id
    evaluations = tuple(_evaluation(step, network, rng) for step, network in judged(spec))
    result = Result(
        trial_id=trial_id,
        attempt=ATTEMPTS[1],
        num_steps=spec.num_steps,
        finished=STARTED[1] + 4 * 3600.0 + 10,
        wall_seconds=8 * 3600.0,
        spec=spec.model_dump(mode="json"),
        class_names=CLASSES,
        digests=DIGESTS,
        evaluations=evaluations,
        segments=_segments(storage, spec, evaluations, rng, with_curves),
        weights_sha256="ab" * 32,
    )
    storage.write(trial_path(trial_id, "result.json"), result.sealed())
    leave_glance(storage, trial_id)


def judged(spec: TrialSpec) -> Iterator[tuple[int, str]]:
    """The evaluations a spec asks for."""
    start = spec.method.teacher_start
    every, last = spec.evaluation.every, spec.num_steps
    for step in sorted({*range(every, last + 1, every), last}):
        yield step, "student"
        if start is not None and step > start:
            yield step, "teacher"


def _evaluation(step: int, network: str, rng: np.random.Generator) -> EvaluationRecord:
    size = len(CLASSES)
    counts = (10 ** rng.uniform(0, 6, (size, size))).astype(int) + np.diag((10 ** rng.uniform(6, 8, size)).astype(int))
    confusion = tuple(map(tuple, counts.tolist()))
    ious = ious_of(confusion)
    return EvaluationRecord(
        step=step,
        time=STARTED[0] + step,
        network=network,
        confusion=confusion,
        class_iou=tuple(ious),
        mean_iou=sum(iou for iou in ious if iou is not None) / size,
        num_undefined=0,
        eval_size=(512, 1024),
    )


def _manifest(spec: TrialSpec, number: int) -> Manifest:
    labeled = -(-2975 * spec.label_fraction.numerator // spec.label_fraction.denominator)
    return Manifest(
        trial_id=spec.trial_id,
        attempt=ATTEMPTS[number],
        started=STARTED[number],
        resumed_from_step=20_000 * number,
        resumed_from_attempt=ATTEMPTS[0] if number else None,
        digests=DIGESTS,
        versions={"python": "3.11.7", "torch": "2.11.0", "numpy": "2.4.6", "pillow": "12.0.0", "cuda": "12.8"},
        host="node-a",
        pid=1,
        device="NVIDIA H100 80GB HBM3",
        world_size=1,
        threads=4,
        options=RunOptions(gpus_per_worker=1.0).model_dump(mode="json"),
        class_names=CLASSES,
        num_labeled=labeled,
        num_unlabeled=2975 - labeled,
        labeled_names=tuple(f"aachen/aachen_{i:06}_000019_leftImg8bit.png" for i in range(labeled)),
    )


def _progress(manifest: Manifest, num_steps: int) -> ProgressRecord:
    return ProgressRecord(
        trial_id=manifest.trial_id,
        attempt=manifest.attempt,
        step=manifest.resumed_from_step + 20_000 - 5,
        num_steps=num_steps,
        steps_per_second=1.4,
        time=manifest.started + 4 * 3600.0,
    )


def _segments(
    storage: Storage,
    spec: TrialSpec,
    evaluations: tuple[EvaluationRecord, ...],
    rng: np.random.Generator,
    with_curves: bool,
) -> tuple[Segment, ...]:
    """A segment per 1,000 steps; their files are there only with curves."""
    segments = []
    for end in range(1000, spec.num_steps + 1, 1000):
        steps = range(end - 900, end + 1, 100)
        names = ("supervised_loss", "unlabeled_loss", "confident_fraction", "mask_area", "learning_rate")
        records: list[Record] = [
            TrainRecord(step=s, time=STARTED[0] + s, scalars=dict(zip(names, rng.random(5).tolist(), strict=True)))
            for s in steps
        ]
        records += [record for record in evaluations if end - 1000 < record.step <= end]
        place = {"trial_id": spec.trial_id, "attempt": ATTEMPTS[end > 20_000], "step": end}
        if with_curves:
            segments.append(write_segment(storage, **place, records=records))  # type: ignore[arg-type]
        else:
            segments.append(Segment(attempt=place["attempt"], file=f"metrics-{end:08}.jsonl", sha256_of_file="ab" * 32))
    return tuple(segments)


if __name__ == "__main__":
    put_many(Storage(sys.argv[1]), large_table(), with_curves="--curves" in sys.argv)
