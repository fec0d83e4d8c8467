"""Small tables and records for the tests of `results`: every record is sealed and stored as training stores it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

from results.frame import Frames, read_frames
from trainer.records import (
    Commit,
    Digests,
    EvaluationRecord,
    Failure,
    Manifest,
    Result,
    attempt_path,
    checkpoint_name,
    trial_path,
    write_segment,
)
from trainer.spec import ComplexMask, Evaluation, Mix, Supervised, Synthetic, TinyNetwork, TrialSpec
from trainer.storage import Storage

ATTEMPT = "20260101T000000-00000001"
CLASSES = ("road", "sky", "car")
METHODS = {"Supervised": Supervised(), "ClassMix": Mix(), "ComplexMix": Mix(mask=ComplexMask())}
EIGHTH, QUARTER, FULL = Fraction(1, 8), Fraction(1, 4), Fraction(1)


@dataclass(frozen=True)
class RowStub:
    label: str
    group: int = 1
    selection: str | None = None
    reported_network: str | None = None


@dataclass(frozen=True)
class FrameStub:
    selection: str = "last"
    reported_network: str = "student"


@dataclass(frozen=True)
class CellStub:
    row: str
    label_fraction: Fraction
    seed: int
    spec: TrialSpec

    @property
    def trial_id(self) -> str:
        return self.spec.trial_id


@dataclass(frozen=True)
class TableStub:
    """Supervised rows exist at every fraction, the others below 1 only."""

    rows: tuple[RowStub, ...] = (RowStub("Supervised"), RowStub("ComplexMix", 2))
    fractions: tuple[Fraction, ...] = (EIGHTH, QUARTER)
    seeds: tuple[int, ...] = (0, 1, 2)
    name: str = "stub"
    title: str = "A table for tests"
    published: str | None = None
    reference_row: str | None = None
    is_demonstration: bool = False
    overrides: tuple[tuple[str, object], ...] = ()
    frame: FrameStub = FrameStub()

    def cells(self) -> tuple[CellStub, ...]:
        places = product(self.rows, self.fractions, self.seeds)
        return tuple(
            CellStub(row.label, fraction, seed, spec_of(row.label, fraction, seed))
            for row, fraction, seed in places
            if fraction < 1 or row.label == "Supervised"
        )


def spec_of(label: str, fraction: Fraction = EIGHTH, seed: int = 0) -> TrialSpec:
    """A tiny spec; labels other than those of METHODS are ComplexMix with a batch of their own, so ids differ."""
    method = METHODS.get(label, METHODS["ComplexMix"])
    batch = 2 if label in METHODS else 3 + len(label)
    return TrialSpec(
        dataset=Synthetic(),
        network=TinyNetwork(),
        initial_weights="random",
        method=method,
        label_fraction=fraction,
        labeled_batch=batch,
        num_steps=20,
        evaluation=Evaluation(every=10),
        seed=seed,
    )


def counts_of(ious: Sequence[float | None]) -> tuple[tuple[int, ...], ...]:
    """A confusion matrix that gives these IoUs (below 1) to twelve digits: equal errors among the defined classes."""
    error = 10**12
    defined = [index for index, iou in enumerate(ious) if iou is not None]
    counts = [[0] * len(ious) for _ in ious]
    for i in defined:
        for j in defined:
            counts[i][j] = error if i != j else round(ious[i] / (1 - ious[i]) * 2 * error * (len(defined) - 1))
    return tuple(map(tuple, counts))


def judged(step: int, mean: float | None, network: str = "student", *, classes: Sequence[float | None] = ()):
    """An evaluation with this mean IoU; every class has it, unless `classes` says otherwise."""
    ious = tuple(classes) or (mean,) * len(CLASSES)
    return EvaluationRecord(
        step=step,
        time=0.0,
        network=network,
        confusion=counts_of(ious),
        class_iou=ious,
        mean_iou=mean,
        num_undefined=sum(iou is None for iou in ious),
        eval_size=(64, 128),
    )


def digests(code: str = "c0de" * 16) -> Digests:
    return Digests(code=code, data="da7a" * 16, split="5b11" * 16, weights="random", precision="float32")


def put_manifest(storage: Storage, spec: TrialSpec, *, attempt: str = ATTEMPT, code: str = "c0de" * 16) -> None:
    manifest = Manifest(
        trial_id=spec.trial_id,
        attempt=attempt,
        started=1.0,
        resumed_from_step=0,
        resumed_from_attempt=None,
        digests=digests(code),
        versions={"torch": "2.11.0", "python": "3.11"},
        host="node-a",
        pid=1,
        device="cpu",
        world_size=1,
        threads=1,
        options={},
        class_names=CLASSES,
        num_labeled=int(240 * spec.label_fraction),
        num_unlabeled=0,
        labeled_names=(),
    )
    storage.write(attempt_path(spec.trial_id, attempt, "manifest.json"), manifest.sealed())


def put_done(storage: Storage, spec: TrialSpec, *evaluations: EvaluationRecord, code: str = "c0de" * 16) -> None:
    """Store a finished trial; evaluations that its spec asks for and that are not given judged 0.25."""
    put_manifest(storage, spec, code=code)
    given = {(record.step, record.network) for record in evaluations}
    filled = [judged(step, 0.25, network) for step, network in asked_for(spec) if (step, network) not in given]
    result = Result(
        trial_id=spec.trial_id,
        attempt=ATTEMPT,
        num_steps=spec.num_steps,
        finished=2.0,
        wall_seconds=1.0,
        spec=spec.model_dump(mode="json"),
        class_names=CLASSES,
        digests=digests(code),
        evaluations=(*evaluations, *filled),
        segments=(),
        weights_sha256=None,
    )
    storage.write(trial_path(spec.trial_id, "result.json"), result.sealed())


def asked_for(spec: TrialSpec) -> list[tuple[int, str]]:
    """The evaluations of a spec of 20 steps, judged at 10 and 20."""
    networks = ("student",) if isinstance(spec.method, Supervised) else ("student", "teacher")
    return [(step, network) for step in (10, 20) for network in networks]


def change_sealed(storage: Storage, path: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a record says and seal it again, as somebody would who knows how."""
    body = json.loads(storage.read(path))
    del body["sha256"]
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    storage.write(path, json.dumps({**body, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode())


def put_failed(storage: Storage, spec: TrialSpec) -> None:
    failure = Failure(
        trial_id=spec.trial_id,
        attempt=ATTEMPT,
        reason="non_finite_loss",
        message="loss is nan",
        trace_tail="",
        step=7,
        failed=2.0,
    )
    storage.write(trial_path(spec.trial_id, "failure.json"), failure.sealed())


def put_partial(storage: Storage, spec: TrialSpec, *evaluations: EvaluationRecord, step: int = 10) -> None:
    """Store a trial that stopped at a checkpoint."""
    put_manifest(storage, spec)
    segment = write_segment(storage, trial_id=spec.trial_id, attempt=ATTEMPT, step=step, records=evaluations)
    commit = Commit(
        trial_id=spec.trial_id,
        attempt=ATTEMPT,
        step=step,
        time=1.0,
        digests=digests(),
        world_size=1,
        wall_seconds=1.0,
        files={},
        segments=(segment,),
    )
    storage.write(attempt_path(spec.trial_id, ATTEMPT, checkpoint_name(step), "commit.json"), commit.sealed())


def put_score(storage: Storage, label: str, fraction: Fraction, seed: int, last: float, *, code: str = "c0de" * 16):
    """Store a finished trial that judged `last` at the end and 0.25 half way, its teacher a little better."""
    spec = spec_of(label, fraction, seed)
    records = [judged(10, 0.25), judged(20, last)]
    if label != "Supervised":
        records += [judged(10, 0.26, "teacher"), judged(20, last + 0.01, "teacher")]
    put_done(storage, spec, *records, code=code)


def put_scores(
    storage: Storage, scores: Mapping[str, Mapping[Fraction, Sequence[float | None]]], *, first_seed: int = 0
) -> None:
    """Store finished trials by row and fraction, a score a seed from `first_seed` on; None: that seed is not there."""
    for label, by_fraction in scores.items():
        for fraction, values in by_fraction.items():
            for seed, value in enumerate(values, first_seed):
                if value is not None:
                    put_score(storage, label, fraction, seed, value)


def read(storage: Storage, table: TableStub, **options: object) -> Frames:
    return read_frames(storage, table, num_threads=2, **options)  # type: ignore[arg-type]
