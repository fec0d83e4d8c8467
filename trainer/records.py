"""What a trial leaves in storage: names, schemas, atomic reading and writing, and the state of a trial.

Loads neither torch nor ray, so that every room can read what training left. Storage is a local folder, a shared folder
or an object store (pyarrow filesystems). Every JSON record carries the SHA-256 of its own content: a record that was
cut, edited or rotted is a `DamagedRecord`, never a number.
"""

import gc
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from trainer.consistency import refuse_other_ious, refuse_other_judgements, refuse_other_sizes
from trainer.counts import cut_counts, do_numbers_follow
from trainer.remote import advice, arrow_fs, may_be_gone, open_remote, put, refuse_missing_bucket, without_keys
from trainer.seals import BrokenSeal, sealed, unsealed
from trainer.spec import ClassNames, TrialSpec

# --- storage ------------------------------------------------------------------------------------------------------


class Storage:
    """A folder that may be local or remote; paths inside it are relative, with forward slashes.

    `name` is for persons; `url` may hold keys and is for programs only. Where storage cannot tell whether something is
    there, every question raises an OSError that names the path: "not found" is said of what is not there alone.
    """

    _secrets: tuple[str, ...] = ()
    _is_confirmed = False

    def __init__(self, url: str) -> None:
        self.url = url
        if "://" in url:
            remote = open_remote(url)
            self._filesystem, self._root, self._secrets = remote.filesystem, remote.root, remote.secrets
        else:
            self._filesystem, self._root = arrow_fs().LocalFileSystem(), str(Path(url).expanduser().absolute())
        self.is_local = isinstance(self._filesystem, arrow_fs().LocalFileSystem)

    @property
    def name(self) -> str:
        """What a person calls this storage."""
        return self._root if self.is_local else without_keys(self.url)

    def locate(self, path: str) -> str:
        """Where `path` lies, as a person would write it."""
        return f"{self.name}/{path}"

    def url_of(self, path: str) -> str:
        """Where `path` lies, for a program that opens it: with keys and all else the URL says."""
        place, mark, words = self.url.partition("?")
        return f"{self._root}/{path}" if self.is_local else f"{place.rstrip('/')}/{path}{mark}{words}"

    def _full(self, path: str) -> str:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{path!r} is no path inside the storage {self.name}")
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        """Read a file. Raises: FileNotFoundError where there is none."""
        full = self._full(path)
        with self._asking("read", path), self._filesystem.open_input_stream(full) as stream:
            return bytes(stream.read())

    def write(self, path: str, content: bytes) -> None:
        """Write a file so that it appears whole or not at all.

        Raises: OSError that names the path and what is free, where the storage is full or away.
        """
        full = self._full(path)
        try:
            if self.is_local:
                _write_local(Path(full), content)
            else:
                put(self._filesystem, full, content)
        except OSError as error:
            raise self._explained("write", path, error) from None

    def _free_space(self) -> str:
        with suppress(OSError):
            stat = os.statvfs(next(p for p in (Path(self._root), *Path(self._root).parents) if p.exists()))
            return f"{stat.f_bavail * stat.f_frsize / 2**20:.0f} MiB free"
        return "free space unknown"

    def names(self, path: str) -> list[str]:
        """Sorted names of the files and folders directly below `path`; empty where there is no such folder."""
        selector = arrow_fs().FileSelector(self._full(path), allow_not_found=True)
        try:
            with self._asking("list", path):
                names = sorted(info.base_name for info in self._filesystem.get_file_info(selector))
        except NotADirectoryError:
            return []
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.locate(path)} holds a name that is no text: {error}") from error
        if not names:
            self._confirm("list", path)
        return names

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return bool(self._look_at(path).type != arrow_fs().FileType.NotFound)

    def modified(self, path: str) -> float:
        """Time of the last change by the storage's clock, in unix seconds; 0 where there is nothing."""
        info = self._look_at(path)
        return info.mtime_ns / 1e9 if info.mtime_ns else 0.0

    def _look_at(self, path: str) -> Any:
        full = self._full(path)
        with self._asking("look at", path):
            info = self._filesystem.get_file_info(full)
        if info.type == arrow_fs().FileType.NotFound:
            self._confirm("look at", path)
        return info

    def now(self) -> float:
        """The storage's clock, in unix seconds: what a file written now is stamped with."""
        probe = f"clock/{uuid.uuid4().hex}"
        self.write(probe, b"")
        stamp = self.modified(probe)
        self.remove(probe)
        return stamp

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; nothing happens where there is none."""
        full = self._full(path)
        with suppress(FileNotFoundError, NotADirectoryError), self._asking("remove", path):
            if self._filesystem.get_file_info(full).type == arrow_fs().FileType.Directory:
                self._filesystem.delete_dir(full)
            else:
                self._filesystem.delete_file(full)

    @contextmanager
    def _asking(self, what: str, path: str) -> Iterator[None]:
        """Let an answer other than "not found" say what could not be done, and where."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            self._confirm(what, path)
            raise
        except OSError as error:
            if may_be_gone(error) and not self.exists(path):
                raise FileNotFoundError(f"{self.locate(path)} is gone") from None
            raise self._explained(what, path, error) from None

    def _confirm(self, what: str, path: str) -> None:
        """That nothing was found counts in a bucket that is there: without one every trial would read as missing."""
        if self._is_confirmed or self.is_local:
            return
        try:
            refuse_missing_bucket(self._filesystem, self._root)
        except OSError as error:
            raise self._explained(what, path, error) from None
        self._is_confirmed = True

    def _explained(self, what: str, path: str, error: OSError) -> OSError:
        space = f" ({self._free_space()})" if what == "write" and self.is_local else ""
        hint = "" if self.is_local else advice(str(error))
        message = f"cannot {what} {self.locate(path)}{space}: {error}{hint}"
        for secret in self._secrets:
            message = message.replace(secret, "…")
        return OSError(message)


def _write_local(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


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
    """What an attempt ran on. Written before its first step."""

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


# --- reading ------------------------------------------------------------------------------------------------------


def read_each(
    storage: Storage, read: Callable[[str], T], trial_ids: Iterable[str], *, num_threads: int | None = None
) -> dict[str, T]:
    """What `read` gives for each trial, side by side: many at a time where each answer has to be waited for."""
    unique = list(dict.fromkeys(trial_ids))
    with _no_search_for_cycles(), ThreadPoolExecutor(num_threads or (2 if storage.is_local else 32)) as pool:
        return dict(zip(unique, pool.map(read, unique), strict=True))


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Records are many small objects that stay: to look through them for garbage takes a fifth of reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def labels_path(trial_id: str, step: int, sha256: str, suffix: str) -> str:
    """Where the labels of the round after `step` updates lie, and beside them their marker; named by their content."""
    return trial_path(trial_id, "labels", f"{step:08d}-{sha256[:12]}.{suffix}")


def find_round_labels(storage: Storage, trial_id: str, step: int) -> list[RoundLabels]:
    """The markers of a round that can be read, in order of name."""
    found = []
    for name in sorted(storage.names(trial_path(trial_id, "labels"))):
        if name.startswith(f"{step:08d}-") and name.endswith(".json"):
            with suppress(DamagedRecord):
                marker = RoundLabels.find(storage, trial_path(trial_id, "labels", name))
                if marker is not None and (marker.trial_id, marker.step) == (trial_id, step):
                    found.append(marker)
    return found


def find_commits(storage: Storage, trial_id: str) -> list[Commit]:
    """The sealed checkpoints of a trial over all its attempts, newest first; damaged markers are left out."""
    commits = []
    for attempt, name in checkpoint_folders(storage, trial_id):
        with suppress(DamagedRecord):
            commit = Commit.find(storage, attempt_path(trial_id, attempt, name, "commit.json"))
            if commit is not None and _lies_at(commit, trial_id, attempt, name):
                commits.append(commit)
    return sorted(commits, key=lambda commit: (commit.step, commit.time), reverse=True)


def checkpoint_folders(storage: Storage, trial_id: str) -> list[tuple[str, str]]:
    """Attempt and name of every checkpoint of a trial, sealed or not, older attempts first."""
    attempts = storage.names(trial_path(trial_id, "attempts"))
    names = ((attempt, name) for attempt in attempts for name in storage.names(attempt_path(trial_id, attempt)))
    return [(attempt, name) for attempt, name in names if name.startswith("checkpoint-")]


def _lies_at(commit: Commit, trial_id: str, attempt: str, name: str) -> bool:
    place = (commit.trial_id, commit.attempt, checkpoint_name(commit.step))
    return place == (trial_id, attempt, name)


def read_manifests(storage: Storage, trial_id: str) -> tuple[list[Manifest], list[str]]:
    """The manifests of a trial by attempt, and a line for each that cannot be read or is another attempt's."""
    manifests, damage = [], []
    for attempt in storage.names(trial_path(trial_id, "attempts")):
        path = attempt_path(trial_id, attempt, "manifest.json")
        try:
            manifest = Manifest.find(storage, path)
            if manifest is not None and (manifest.trial_id, manifest.attempt) != (trial_id, attempt):
                raise DamagedRecord(f"{storage.locate(path)} is that of {manifest.trial_id}, {manifest.attempt}")
        except DamagedRecord as error:
            damage.append(f"manifest not accepted: {error}")
        else:
            manifests += [] if manifest is None else [manifest]
    return manifests, damage


def write_segment(storage: Storage, *, trial_id: str, attempt: str, step: int, records: Sequence[Record]) -> Segment:
    """Write the metric records of a stretch of steps; they count once a commit names them."""
    content = "".join(json.dumps(record.model_dump(mode="json"), sort_keys=True) + "\n" for record in records).encode()
    storage.write(attempt_path(trial_id, attempt, segment_name(step)), content)
    return Segment(attempt=attempt, file=segment_name(step), sha256_of_file=hashlib.sha256(content).hexdigest())


def read_segments(
    storage: Storage, trial_id: str, segments: Sequence[Segment]
) -> Iterator[TrainRecord | EvaluationRecord]:
    """The metric records of a history, in order of steps. Raises: DamagedRecord."""
    return _read_lines(storage, trial_id, segments, lambda line: True)


def read_train_records(storage: Storage, trial_id: str, segments: Sequence[Segment]) -> Iterator[TrainRecord]:
    """As `read_segments`, without the evaluations, whose lines are not looked into. Raises: DamagedRecord."""
    for record in _read_lines(storage, trial_id, segments, lambda line: _EVALUATION not in line):
        if isinstance(record, TrainRecord):
            yield record


def _read_lines(
    storage: Storage, trial_id: str, segments: Sequence[Segment], is_wanted: Callable[[bytes], bool]
) -> Iterator[TrainRecord | EvaluationRecord]:
    step = 0
    for segment in segments:
        path = attempt_path(trial_id, segment.attempt, segment.file)
        try:
            content = storage.read(path)
        except FileNotFoundError as error:
            raise DamagedRecord(f"{storage.locate(path)} is gone, but a checkpoint or result counts on it") from error
        if hashlib.sha256(content).hexdigest() != segment.sha256_of_file:
            raise DamagedRecord(f"{storage.locate(path)} was changed after it was written")
        wanted = filter(is_wanted, content.splitlines())
        for record in _records_in(wanted, where=storage.locate(path)):
            if record.step < step:
                raise DamagedRecord(f"{storage.locate(path)} goes back from step {step} to {record.step}")
            step = record.step
            yield record


def find_previews(
    storage: Storage, trial_id: str, segments: Sequence[Segment], *, passed_over: int = 0
) -> dict[int, str]:
    """The paths of the pictures that belong to a history, by step.

    A picture counts as the records of its step do: an attempt's pictures up to each of its segments, from the segment
    before on. `passed_over` leaves out those of so many first segments.
    """
    names = {attempt: storage.names(attempt_path(trial_id, attempt)) for attempt in {s.attempt for s in segments}}
    found: dict[int, str] = {}
    first = 0
    for number, segment in enumerate(segments):
        last = step_of_segment(segment.file) or first
        for name in names[segment.attempt] if number >= passed_over else ():
            step = step_of_preview(name)
            if step is not None and first < step <= last:
                found[step] = attempt_path(trial_id, segment.attempt, name)
        first = last
    return found


_EVALUATION = b'"kind": "evaluation"'


def _records_in(lines: Iterable[bytes], *, where: str) -> Iterator[TrainRecord | EvaluationRecord]:
    try:
        for line in lines:
            yield _METRIC_RECORD.validate_json(line, strict=True)
    except ValidationError as error:
        raise DamagedRecord(f"{where} holds what is no metric record: {error}") from error


_METRIC_RECORD: TypeAdapter[TrainRecord | EvaluationRecord] = TypeAdapter(
    Annotated[TrainRecord | EvaluationRecord, Field(discriminator="kind")]
)


@dataclass(frozen=True, slots=True)
class TrialState:
    """Where a trial stands, as read from storage: `step` updates are safe; `detail` is one line for a person."""

    kind: Literal["done", "failed", "partial", "missing"]
    step: int = 0
    detail: str = ""


def trial_state(storage: Storage, trial_id: str) -> TrialState:
    """Done is what a valid result says; failed what a failure says; partial has a checkpoint; else missing."""
    return read_trial(storage, trial_id)[0]


def read_trial(storage: Storage, trial_id: str) -> tuple[TrialState, ResultInBrief | None]:
    """The state of a trial, and its result where it is done: one look at storage, so that both say the same."""
    detail = ""
    try:
        result = read_brief(storage, trial_id)
    except DamagedRecord as error:
        result, detail = None, f"result not accepted: {error}"
    if result is not None:
        return TrialState("done", step=result.num_steps), result
    failure = read_failure(storage, trial_id)
    if failure is not None:
        return TrialState("failed", step=failure.step, detail=f"{failure.reason}: {failure.message}"), None
    commits = find_commits(storage, trial_id)
    kind: Literal["partial", "missing"] = "partial" if commits or detail else "missing"
    step = commits[0].step if commits else 0
    return TrialState(kind, step=step, detail=detail or last_words(storage, trial_id)), None


def last_words(storage: Storage, trial_id: str) -> str:
    """What the newest attempt of a trial that is not done said of its end; empty where nothing was tried."""
    attempts = storage.names(trial_path(trial_id, "attempts"))
    if not attempts:
        return ""
    words = read_endings(storage, trial_id, attempts[-1])
    if words:
        first = words[0]  # the other ranks most likely only noticed
        return f"{_ENDINGS[first.kind]} (rank {first.rank}): {first.message}" if first.message else _ENDINGS[first.kind]
    if storage.exists(superseded_path(trial_id, attempts[-1])):
        return f"its result of attempt {attempts[-1]} was set aside, to be trained again"
    progress = read_progress(storage, trial_id, attempts[-1])
    at = f" near step {progress.step}" if progress else ""
    return f"attempt {attempts[-1]} ended{at} without a word: killed, or its machine was lost"


_ENDINGS = {
    "stopped": "asked to stop",
    "refused": "refused",
    "failed": "failed",
    "raised": "broke off",
    "hung": "hung and was ended",
    "out_of_memory": "out of memory, to be tried again with activation checkpointing",
}


def read_endings(storage: Storage, trial_id: str, attempt: str) -> list[Ending]:
    """How the ranks of an attempt ended, in order of time; damaged words are left out."""
    endings = []
    for name in storage.names(attempt_path(trial_id, attempt)):
        if name.startswith("ended-"):
            with suppress(DamagedRecord):
                ending = Ending.find(storage, attempt_path(trial_id, attempt, name))
                endings += [] if ending is None else [ending]
    return sorted(endings, key=lambda ending: ending.time)


def read_progress(storage: Storage, trial_id: str, attempt: str) -> ProgressRecord | None:
    """How far an attempt said it was; None where it never did."""
    with suppress(DamagedRecord):
        return ProgressRecord.find(storage, attempt_path(trial_id, attempt, "progress.json"))
    return None


def read_result(storage: Storage, trial_id: str) -> Result | None:
    """The result of a trial, None where there is none.

    Raises: DamagedRecord, also for another trial's result and for one that contradicts itself or its spec.
    """
    result = Result.find(storage, trial_path(trial_id, "result.json"))
    if result is not None:
        _refuse_strange(result, result.evaluations, trial_id)
    return result


def read_brief(storage: Storage, trial_id: str) -> ResultInBrief | None:
    """As `read_result`, without the counts: they are looked at all the same, in a third of the time.

    What this process has accepted before is not looked at again while its bytes are the same.
    """
    try:
        content = storage.read(trial_path(trial_id, "result.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    brief = _BRIEFS.recall(content, lambda: _brief_at_sight(content, trial_id))
    if brief is not None and brief.trial_id == trial_id:
        return brief
    result = read_result(storage, trial_id)
    return None if result is None else _brief_of(result)


_BRIEFS: Remembered[ResultInBrief | None] = Remembered()


def _brief_at_sight(content: bytes, trial_id: str) -> ResultInBrief | None:
    """A result without its counts, where it is plain to see that nothing is wrong with it; else None."""
    with suppress(BrokenSeal, ValidationError, DamagedRecord):
        rest, texts = cut_counts(unsealed(content))
        brief = ResultInBrief.model_validate_json(rest, strict=True)
        judged = brief.evaluations
        _refuse_strange(brief, judged, trial_id)
        ious, means = [record.class_iou for record in judged], [record.mean_iou for record in judged]
        return brief if do_numbers_follow(texts, len(brief.class_names), ious, means) else None
    return None


def _brief_of(result: Result) -> ResultInBrief:
    """Leave the counts out of a result."""
    evaluations = tuple(
        Judgement(**{name: getattr(record, name) for name in Judgement.model_fields}) for record in result.evaluations
    )
    return ResultInBrief(**{name: getattr(result, name) for name in Finished.model_fields}, evaluations=evaluations)


def _refuse_strange(result: Finished, evaluations: Sequence[Judgement], trial_id: str) -> None:
    """Raises: DamagedRecord for a result that is another trial's or contradicts its spec."""
    try:
        spec = TrialSpec.model_validate(result.spec)
    except ValidationError as error:
        raise DamagedRecord(f"the result of {trial_id} holds an invalid spec: {error}") from error
    if (result.trial_id, spec.trial_id) != (trial_id, trial_id):
        raise DamagedRecord(f"the result in the folder of {trial_id} belongs to {spec.trial_id}")
    if result.num_steps != spec.num_steps:
        raise DamagedRecord(f"the result of {trial_id} is after {result.num_steps} steps, its spec {spec.num_steps}")
    refuse_contradictions(evaluations, result.class_names, spec, until=spec.num_steps)


def refuse_contradictions(
    evaluations: Sequence[Judgement], class_names: Sequence[str], spec: TrialSpec, *, until: int
) -> None:
    """Raises: DamagedRecord where evaluations of a trial's first `until` updates cannot be those its spec asks for."""
    try:
        refuse_other_sizes(spec, [record.eval_size for record in evaluations])
        refuse_other_judgements(spec, [(record.step, record.network) for record in evaluations], until=until)
        for record in evaluations:
            if len(record.class_iou) != len(class_names):
                raise ValueError(f"{len(class_names)} classes are wanted at step {record.step}")
    except ValueError as error:
        raise DamagedRecord(f"the evaluations of {spec.trial_id} contradict each other or its spec: {error}") from error


def read_failure(storage: Storage, trial_id: str) -> Failure | None:
    """The failure of a trial; a damaged one or another trial's does not count."""
    with suppress(DamagedRecord):
        failure = Failure.find(storage, trial_path(trial_id, "failure.json"))
        return failure if failure is not None and failure.trial_id == trial_id else None
    return None


def superseded_path(trial_id: str, attempt: str) -> str:
    """Where the result of an attempt lies that was set aside for a new one: byte for byte the result.json it was."""
    return trial_path(trial_id, "superseded", f"{attempt}.json")


def read_superseded(storage: Storage, trial_id: str) -> tuple[list[Result], list[str]]:
    """The results of a trial that were set aside, by attempt, and a line for each that cannot be read."""
    results, damage = [], []
    for name in storage.names(trial_path(trial_id, "superseded")):
        path = trial_path(trial_id, "superseded", name)
        try:
            result = Result.find(storage, path)
            if result is not None and (result.trial_id, f"{result.attempt}.json") != (trial_id, name):
                raise DamagedRecord(f"{storage.locate(path)} is that of {result.trial_id}, {result.attempt}")
        except DamagedRecord as error:
            damage.append(f"superseded result not accepted: {error}")
        else:
            results += [] if result is None else [result]
    return results, damage


def read_accepted(storage: Storage, trial_id: str) -> tuple[AcceptedChange, ...]:
    """What was accepted of a trial's results, oldest first; a damaged record or another trial's accepts nothing."""
    with suppress(DamagedRecord):
        acceptance = Acceptance.find(storage, trial_path(trial_id, "accepted.json"))
        return acceptance.changes if acceptance is not None and acceptance.trial_id == trial_id else ()
    return ()


# Files below trainer/ that cannot change a number: how it is stored, reported, drawn or asked to stop.
_NOT_DECIDING = {
    "checkpoint.py",
    "consistency.py",
    "counts.py",
    "drawing.py",
    "errors.py",
    "fitting.py",
    "host.py",
    "journal.py",
    "keeper.py",
    "mask_statistics.py",
    "options.py",
    "palettes.py",
    "predicting.py",
    "preview.py",
    "records.py",
    "telling.py",
    "trained.py",
    "trial_preview.py",
    "remote.py",
    "run.py",
    "seals.py",
    "watchdog.py",
}


def code_digest() -> str:
    """SHA-256 over the number-deciding files of the training room, by name and content."""
    room = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(room.rglob("*.py")):
        if path.name not in _NOT_DECIDING:
            digest.update(path.relative_to(room).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
