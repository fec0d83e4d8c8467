"""What was submitted, remembered in storage, so that every machine knows. Knows no backend."""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from orchestrator.lease import this_host
from orchestrator.submit.request import Job
from orchestrator.submit.snapshot import Origin, Snapshot
from trainer.records import (
    DamagedRecord,
    FileWord,
    Record,
    Whole,
)
from trainer.storage import Storage

BackendName = Literal["ray", "slurm", "kuberay"]
_FOLDER = "submissions"


class SubmissionRecord(Record):
    """One attempt at a submission: written before it is sent, and again with the backend's own id after.

    `address` is where the backend was reached: a job server, a namespace; `words` are those of the command line.
    """

    name: FileWord
    submission: FileWord
    attempt: Whole
    backend: BackendName
    backend_id: str
    address: str
    sent: float
    host: str
    table: str
    words: tuple[str, ...]
    trial_ids: tuple[str, ...]
    options: dict[str, Any]
    snapshot: str
    commit: str
    changed_files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job stands: "unknown" where its backend cannot be asked from here; `exit_code` where it told one."""

    kind: Literal["queued", "running", "ended", "unknown"]
    detail: str = ""
    exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the job surely does nothing any more."""
        return self.kind == "ended"


class Backend(Protocol):
    """What is asked of a cluster about one job, found by its name."""

    def state(self, record: SubmissionRecord) -> JobState:
        """Where the job stands."""

    def stop(self, record: SubmissionRecord, *, only_queued: bool) -> None:
        """End the job; with `only_queued` only what has not begun."""

    def logs(self, record: SubmissionRecord) -> Mapping[str, str]:
        """What the job printed, by part; array jobs have a part an element."""


def record_of(job: Job, snapshot: Snapshot, backend: BackendName, address: str) -> SubmissionRecord:
    """The record of a job that is about to be sent."""
    wanted = job.submission
    return SubmissionRecord(
        name=job.name,
        submission=wanted.id,
        attempt=job.attempt,
        backend=backend,
        backend_id="",
        address=address,
        sent=time.time(),
        host=this_host().partition("/")[0],
        table=wanted.table.name,
        words=wanted.words,
        trial_ids=wanted.trial_ids,
        options=wanted.options.model_dump(mode="json", exclude={"storage"}),
        snapshot=snapshot.digest,
        commit=snapshot.origin.commit,
        changed_files=snapshot.origin.changed,
    )


def claim(storage: Storage, record: SubmissionRecord) -> bool:
    """Write a record before its job is sent; false where somebody else wrote theirs before, or at the same moment."""
    path = file_of(record.name, "json")
    with suppress(DamagedRecord):
        if SubmissionRecord.find(storage, path) is not None:
            return False
    remember(storage, record)
    return SubmissionRecord.find(storage, path) == record


def remember(storage: Storage, record: SubmissionRecord) -> None:
    """Write a record."""
    storage.write(file_of(record.name, "json"), record.sealed())


def forget(storage: Storage, record: SubmissionRecord) -> None:
    """Take back all that was written of a job that could not be sent."""
    for suffix in ("zip", "json"):
        storage.remove(file_of(record.name, suffix))


def file_of(name: str, suffix: str) -> str:
    """Where a file of a submission lies in storage."""
    return f"{_FOLDER}/{name}.{suffix}"


def newest(storage: Storage, submission: str) -> SubmissionRecord | None:
    """The latest attempt at a submission."""
    return max((r for r in _records(storage) if r.submission == submission), key=_attempt, default=None)


def submissions_of(storage: Storage, trial_ids: Collection[str]) -> list[SubmissionRecord]:
    """The latest attempt of every submission that has one of these trials, oldest first."""
    latest: dict[str, SubmissionRecord] = {}
    for record in sorted(_records(storage), key=_attempt):
        if set(record.trial_ids) & set(trial_ids):
            latest[record.submission] = record
    return sorted(latest.values(), key=lambda record: record.sent)


def submission_called(storage: Storage, name: str) -> SubmissionRecord | None:
    """The record of a job by its name; None where it is gone or damaged."""
    with suppress(DamagedRecord):
        return SubmissionRecord.find(storage, file_of(name, "json"))
    return None


def origin_of(record: SubmissionRecord) -> str:
    """The code of a submitted job in words: its snapshot, the commit, and the files that differed from it."""
    return f"snapshot {record.snapshot[:12]} of {record.name}: {Origin(record.commit, record.changed_files)}"


def described(record: SubmissionRecord) -> str:
    """One line for a person."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.sent))
    place = f" at {record.address}" if record.address else ""
    return (
        f"{record.name} was submitted to {record.backend}{place} from {record.host}, {when} (job {record.backend_id})"
    )


def _records(storage: Storage) -> list[SubmissionRecord]:
    records = []
    for name in storage.names(_FOLDER):
        if name.endswith(".json"):
            with suppress(DamagedRecord):
                record = SubmissionRecord.find(storage, f"{_FOLDER}/{name}")
                records += [] if record is None else [record]
    return records


def _attempt(record: SubmissionRecord) -> int:
    return record.attempt
