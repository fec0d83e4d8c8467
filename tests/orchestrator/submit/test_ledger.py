"""What was submitted is remembered in storage."""

from pathlib import Path

import pytest

from orchestrator.submit.ledger import (
    SubmissionRecord,
    claim,
    described,
    file_of,
    forget,
    newest,
    record_of,
    remember,
    submissions_of,
)
from orchestrator.submit.snapshot import Origin, Snapshot
from tests.orchestrator.submit.conftest import job
from trainer.storage import Storage

SNAPSHOT = Snapshot({"trainer/a.py": b"1"}, Origin("c" * 40, ("trainer/a.py",)))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "runs"))


def record(attempt: int = 1, **changed: object) -> SubmissionRecord:
    return record_of(job(attempt, **changed), SNAPSHOT, "slurm", "")


def test_the_latest_attempt_is_found_by_number_and_not_by_name(storage: Storage) -> None:
    for attempt in (2, 10, 9):
        remember(storage, record(attempt))
    found = newest(storage, record().submission)
    assert found is not None
    assert found.attempt == 10
    assert newest(storage, "other-0") is None


def test_a_record_says_what_was_sent_and_no_key_of_the_storage(storage: Storage) -> None:
    remember(storage, record())
    found = newest(storage, record().submission)
    assert found is not None
    assert (found.snapshot, found.commit, found.changed_files) == (SNAPSHOT.digest, "c" * 40, ("trainer/a.py",))
    assert found.trial_ids == job().submission.trial_ids
    assert "storage" not in found.options
    assert "was submitted to slurm from" in described(found)


def test_submissions_of_some_trials_are_their_latest_attempts(storage: Storage) -> None:
    first, second = record(1), record(2)
    other = record(1, retry_failed=True)
    for each in (second, first, other):
        remember(storage, each)
    assert submissions_of(storage, first.trial_ids[:1]) == [second, other]
    assert submissions_of(storage, ["none"]) == []


def test_a_damaged_record_does_not_count(storage: Storage) -> None:
    remember(storage, record(1))
    remember(storage, record(2))
    path = file_of(record(2).name, "json")
    storage.write(path, storage.read(path).replace(b'"slurm"', b'"ray"'))
    found = newest(storage, record().submission)
    assert found is not None
    assert found.attempt == 1


def test_a_claim_is_lost_to_whoever_wrote_before(storage: Storage) -> None:
    mine, theirs = record(), record().model_copy(update={"host": "elsewhere"})
    assert claim(storage, theirs)
    assert not claim(storage, mine)
    assert newest(storage, mine.submission) == theirs


def test_a_claim_is_lost_to_whoever_wrote_last(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = record(), record().model_copy(update={"host": "elsewhere"})
    write = Storage.write

    def overtaken(self: Storage, path: str, content: bytes) -> None:
        write(self, path, content)
        write(self, path, theirs.sealed())

    monkeypatch.setattr(Storage, "write", overtaken)
    assert not claim(storage, mine)


def test_what_could_not_be_sent_is_forgotten(storage: Storage) -> None:
    remember(storage, record())
    storage.write(file_of(record().name, "zip"), SNAPSHOT.zipped())
    forget(storage, record())
    assert storage.names("submissions") == []
