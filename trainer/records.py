"""What a trial leaves in storage: names, schemas and seals. `reading.py` reads them, `storage.py` knows where they lie.

Loads neither torch nor ray, so that every room can read what training left. Every JSON record carries the SHA-256 of
its own content: a record that was cut, edited or rotted is a `DamagedRecord`, never a number.
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainer.consistency import refuse_other_ious
from trainer.seals import BrokenSeal, sealed, unsealed
from trainer.spec import ClassNames
from trainer.storage import Storage

# --- sealed records -----------------------------------------------------------------------------------------------


class DamagedRecord(ValueError):  # noqa: N818  (it names what was found, not that something went wrong here)
    """A record whose content does not fit its seal or its schema."""


T = TypeVar("T")
Whole = Annotated[int, Field(ge=0, lt=2**63)]
"""What is counted: a number that every reader can hold."""
FileWord = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name inside a folder: it cannot lead elsewhere."""


class Record(BaseModel):
    """A frozen record that is written sealed and refuses to be read broken. Unknown fields are kept out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sealed(self) -> bytes:
        """JSON bytes with the digest of everything else under "sha256"."""
        return sealed(self.model_dump(mode="json"))

    @classmethod
    def opened(cls, content: bytes, *, where: str) -> Self:
        """Read sealed bytes. Raises: DamagedRecord naming `where`."""
        try:
            return cls.model_validate_json(unsealed(content), strict=True)  # strict: "5" and true are no numbers
        except BrokenSeal as error:
            raise DamagedRecord(f"{where} {error}") from error
        except ValidationError as error:
            raise DamagedRecord(f"{where} does not fit its schema: {error}") from error

    @classmethod
    def find(cls, storage: Storage, path: str) -> Self | None:
        """Read a record, None where there is none. Raises: DamagedRecord."""
        where = storage.locate(path)
        try:
            with suppress(DamagedRecord):
                return cls.opened(storage.read(path), where=where)
            # A store may have got a new one between the questions for its length and for its bytes: look again.
            return cls.opened(storage.read(path), where=where)
        except (FileNotFoundError, NotADirectoryError):
            return None


class Remembered(Generic[T]):
    """What was made of some bytes before, by their digest; all is forgotten where it becomes too much."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._made: dict[bytes, T] = {}

    def recall(self, content: bytes, make: Callable[[], T]) -> T:
        """What `make` gave for these bytes, or gives now. Raises: what it raises, each time."""
        key = hashlib.sha256(content).digest()
        with suppress(KeyError):
            return self._made[key]
        found = make()
        if len(self._made) >= self._most:
            self._made.clear()
        self._made[key] = found
        return found


class TrainRecord(Record):
    """Means of the training scalars since the record before, at `step` updates done; `time` in unix seconds."""

    kind: Literal["train"] = "train"
    step: Whole
    time: float
    scalars: dict[str, float]


class Judgement(Record):
    """What one network was found to be after `step` updates, without the counts it follows from.

    `class_iou` [C] in [0, 1] with None where a class is in neither truth nor prediction; `mean_iou` is the mean over
    the others; `eval_size` is (height, width) of what was compared.
    """

    kind: Literal["evaluation"] = "evaluation"
    step: Whole
    time: float
    network: Literal["student", "teacher"]
    class_iou: tuple[float | None, ...]
    mean_iou: float | None
    num_undefined: Whole
    eval_size: tuple[Whole, Whole]

    @model_validator(mode="after")
    def _undefined_classes_are_counted(self) -> Self:
        if self.num_undefined != self.class_iou.count(None):
            raise ValueError(f"num_undefined {self.num_undefined} is not the number of classes without an IoU")
        return self


class EvaluationRecord(Judgement):
    """One network judged after `step` updates, and the counts behind it.

    `confusion` [C][C] counts pixels, rows truth, columns prediction. Numbers that do not follow from the counts make
    no record.
    """

    confusion: tuple[tuple[Whole, ...], ...]

    @model_validator(mode="after")
    def _numbers_follow_from_counts(self) -> Self:
        refuse_other_ious(self.confusion, self.class_iou, self.mean_iou)
        return self


class Digests(Record):
    """What must not change while a trial is half done: SHA-256 (or a plain word) of each number-deciding thing."""

    code: str
    data: str
    split: str
    weights: str
    precision: str


class Manifest(Record):
    """What an attempt ran on. Written before its first step.

    `host` is rank 0's; `rank_hosts` says of each rank what its host is called and, where the ranks met over a network,
    its address there.
    """

    trial_id: str
    attempt: str
    started: float
    resumed_from_step: Whole
    resumed_from_attempt: str | None
    digests: Digests
    versions: dict[str, str]
    host: str
    pid: Whole
    device: str
    world_size: Whole
    rank_hosts: tuple[str, ...] = ()
    threads: Whole
    activation_checkpointing: bool = False
    options: dict[str, Any]
    class_names: ClassNames
    num_labeled: Whole
    num_unlabeled: Whole
    labeled_names: tuple[str, ...]

    @classmethod
    def opened(cls, content: bytes, *, where: str) -> Self:
        """As every record; bytes that this process has accepted before are not looked at again."""
        manifest = _MANIFESTS.recall(content, lambda: super(Manifest, cls).opened(content, where=where))
        assert isinstance(manifest, cls)
        return manifest


_MANIFESTS: Remembered[Manifest] = Remembered()


class Segment(Record):
    """One file of metric records that belongs to a history."""

    attempt: FileWord
    file: FileWord
    sha256_of_file: str


class FileSeal(Record):
    """Length and SHA-256 of one file."""

    num_bytes: Whole
    sha256_of_file: str


class Commit(Record):
    """The marker that makes a checkpoint one: written last, naming its files and the whole history behind it."""

    trial_id: str
    attempt: str
    step: Whole
    time: float
    digests: Digests
    world_size: Whole
    wall_seconds: float
    files: dict[str, FileSeal]
    segments: tuple[Segment, ...]


class RoundLabels(Record):
    """The marker that makes the labels of a round of self-training count: written after them, and naming them.

    `about` is what the method says of them, such as its thresholds.
    """

    trial_id: str
    attempt: FileWord
    step: Whole
    time: float
    digests: Digests
    num_images: Whole
    file: FileSeal
    about: dict[str, Any]


class Finished(Record):
    """What a trial that is done says of itself, its evaluations left out."""

    trial_id: str
    attempt: FileWord
    num_steps: Whole
    finished: float
    wall_seconds: float
    spec: dict[str, Any]
    class_names: ClassNames
    digests: Digests
    segments: tuple[Segment, ...]
    weights_sha256: str | None


class Result(Finished):
    """The last thing a trial writes: it is done. `evaluations` hold every judgement of its history."""

    evaluations: tuple[EvaluationRecord, ...]


class ResultInBrief(Finished):
    """A result without its counts: what plans and tables are made of."""

    evaluations: tuple[Judgement, ...]


FailureReason = Literal["non_finite_loss", "bad_spec_or_data", "out_of_memory", "error"]
EndingKind = Literal["stopped", "refused", "failed", "raised", "hung", "out_of_memory"]


class Failure(Record):
    """Why a trial cannot be done by trying again."""

    trial_id: str
    attempt: str
    reason: FailureReason
    message: str
    trace_tail: str
    step: Whole
    failed: float


class AcceptedChange(Record):
    """What somebody let stand: by name, the digests and versions that are no longer those a result was made with."""

    attempt: FileWord
    accepted: float
    by: str
    why: str
    facts: dict[str, str]


class Acceptance(Record):
    """All that was accepted of the results of a trial; a change holds for the result of its attempt alone."""

    trial_id: str
    changes: tuple[AcceptedChange, ...]


class Ending(Record):
    """How one rank's part of an attempt ended, when it could still say so; SIGKILL leaves none."""

    trial_id: str
    attempt: str
    rank: Whole
    kind: EndingKind
    message: str
    trace_tail: str
    step: Whole
    time: float


class ProgressRecord(Record):
    """How far an attempt is, for the eye: rewritten every few seconds, never read by training."""

    trial_id: str
    attempt: str
    step: Whole
    num_steps: Whole
    steps_per_second: float
    time: float


class DriverRecord(Record):
    """The heartbeat of one `mixgrid run`: the trials it holds, the process behind it, and Ray's dashboard if any."""

    driver: str
    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]  # it may be sent a signal, and 0 would mean every process of a group
    process_started: float
    table: str
    trial_ids: tuple[str, ...]
    finished: bool
    dashboard: str = ""


# --- names --------------------------------------------------------------------------------------------------------


def is_trial_id(word: str) -> bool:
    """Whether a word may name the folder of a trial."""
    return bool(word) and all(c.isalnum() or c in "-_" for c in word)


def trial_path(trial_id: str, *parts: str) -> str:
    """The path of something a trial leaves. Raises: ValueError where an id could leave its folder."""
    if not is_trial_id(trial_id):
        raise ValueError(f"{trial_id!r} is no trial id")
    return "/".join(("trials", trial_id, *parts))


def attempt_path(trial_id: str, attempt: str, *parts: str) -> str:
    """The path of something below one attempt."""
    return trial_path(trial_id, "attempts", attempt, *parts)


def new_attempt_name() -> str:
    """A name no other attempt has; names sort by their start."""
    now = time.time_ns()
    second = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
    return f"{second}-{now % 10**9 // 1000:06d}-{uuid.uuid4().hex[:8]}"


def ending_name(rank: int) -> str:
    """The file in which a rank says how its attempt ended."""
    return f"ended-{rank:04d}.json"


def checkpoint_name(step: int) -> str:
    """The folder of the checkpoint after `step` updates."""
    return f"checkpoint-{step:08d}"


def segment_name(step: int) -> str:
    """The file of the metric records up to `step` updates."""
    return f"metrics-{step:08d}.jsonl"


def step_of_segment(file: str) -> int:
    """The step that a file of metric records goes up to; 0 for a name of another kind."""
    digits = file.removeprefix("metrics-").removesuffix(".jsonl")
    return int(digits) if digits.isascii() and digits.isdigit() and file == segment_name(int(digits[:18])) else 0


def preview_name(step: int) -> str:
    """The picture of an attempt's networks after `step` updates."""
    return f"preview-{step:08d}.png"


def step_of_preview(file: str) -> int | None:
    """The step in the name of a picture; None for the name of anything else."""
    match = re.fullmatch(r"preview-(\d{8,18})\.png", file)
    return None if match is None else int(match[1])


def labels_path(trial_id: str, step: int, sha256: str, suffix: str) -> str:
    """Where the labels of the round after `step` updates lie, and beside them their marker; named by their content."""
    return trial_path(trial_id, "labels", f"{step:08d}-{sha256[:12]}.{suffix}")


def superseded_path(trial_id: str, attempt: str) -> str:
    """Where the result of an attempt lies that was set aside for a new one: byte for byte the result.json it was."""
    return trial_path(trial_id, "superseded", f"{attempt}.json")


def write_segment(storage: Storage, *, trial_id: str, attempt: str, step: int, records: Sequence[Record]) -> Segment:
    """Write the metric records of a stretch of steps; they count once a commit names them."""
    content = "".join(json.dumps(record.model_dump(mode="json"), sort_keys=True) + "\n" for record in records).encode()
    storage.write(attempt_path(trial_id, attempt, segment_name(step)), content)
    return Segment(attempt=attempt, file=segment_name(step), sha256_of_file=hashlib.sha256(content).hexdigest())
