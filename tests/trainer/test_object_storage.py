"""Storage on S3: the contract of every storage, what a URL means, and whole trials over a server that fails.

Bit for bit on the CPU: what a trial leaves there is what it leaves in a folder.
"""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from pyarrow import NativeFile
from pyarrow.fs import FileInfo

from tests.contracts import Killed, StopAt, small_options, small_spec
from tests.object_store import LATE_SECONDS, ObjectStore
from tests.rooms import Finished, Room
from tests.storage_contract import StorageContract
from trainer import remote
from trainer.checkpoint import newest_checkpoint
from trainer.host import NoHost, Progress
from trainer.reading import trial_state
from trainer.records import trial_path
from trainer.remote import without_keys
from trainer.run import Outcome, is_done
from trainer.storage import Storage

SPEC = small_spec("complexmix", num_steps=4)
PART = 10 * 2**20
BIG = bytes(2 * PART + PART // 2)
NOWHERE = "127.0.0.1:9"
FILES = ("state.pt", "commit.json")
KINDS = ("error", "denied", "dropped")


@pytest.fixture
def storage(object_store: ObjectStore, bucket: str) -> Storage:
    """An empty storage in a bucket."""
    return Storage(object_store.url(f"{bucket}/some/runs"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more try and a second of silence; a storage must be opened after it."""
    monkeypatch.setattr(remote, "RETRIES", 1)
    monkeypatch.setattr(remote, "SILENCE_SECONDS", 1.0)


class TestAnObjectStore(StorageContract):
    pass


# --- what a URL means ---------------------------------------------------------------------------------------------


def test_the_endpoint_comes_from_the_url_or_from_where_awss_own_tools_look(
    object_store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store.endpoint)
    Storage(f"s3://{bucket}/runs").write("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{NOWHERE}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", object_store.endpoint)
    assert Storage(f"s3://{bucket}/runs/").read("a") == b"1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{NOWHERE}")
    bare = object_store.endpoint.removeprefix("http://")
    for words in (f"endpoint_override={object_store.endpoint}", f"scheme=http&endpoint_override={bare}"):
        assert Storage(f"s3://{bucket}/runs?{words}").read("a") == b"1"
    assert Storage(object_store.url(bucket)).read("runs/a") == b"1"


def test_without_an_endpoint_the_region_is_the_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(remote.arrow_fs(), "resolve_s3_region", lambda bucket: asked.append(bucket) or "eu-north-1")
    assert Storage("s3://some-bucket/runs")._filesystem.region == "eu-north-1"
    assert Storage("s3://some-bucket/runs?region=eu-west-3")._filesystem.region == "eu-west-3"
    assert asked == ["some-bucket"]


def test_keys_of_a_url_are_used_and_never_shown(object_store: ObjectStore, bucket: str, impatient: None) -> None:
    storage = Storage(object_store.url(f"{bucket}/runs", keys="mykey:s3cr%2Ft@"))
    storage.write("a", b"1")
    object_store.seen()
    assert storage.read("a") == b"1"
    assert all(request.endswith(" by mykey") for request in object_store.seen())
    assert (storage.name, storage.locate("a")) == (f"s3://{bucket}/runs", f"s3://{bucket}/runs/a")
    with object_store.failing("denied"):
        said = [str(error) for error in errors_of(storage)]
    assert all("s3cr" not in words and "mykey" not in words for words in said)
    assert any("Access Denied for … …" in words for words in said)


@pytest.mark.parametrize(
    "url",
    [
        "s3://mykey:s3cr%2Ft@",
        "s3://mykey:s3cr/t@bucket/runs",
        "s3://mykey:s3cr%2Ft@bucket/runs?secret_key=s3cr",
        "s3://mykey:s3cr%2Ft@bucket/runs#x",
        "s4://mykey:s3cr%2Ft@bucket/runs",
        "hdfs+x://mykey:s3cr%2Ft@bucket:port/runs",
    ],
)
def test_a_url_of_no_storage_is_refused_without_its_keys(url: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot open the storage (s3|s4|hdfs\+x)://") as refusal:
        Storage(url)
    assert "s3cr" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_what_may_stand_in_a_url_is_said() -> None:
    with pytest.raises(ValueError, match=r"endpoint_override, region, scheme, tls_ca_file_path, but not retries"):
        Storage("s3://bucket/runs?region=eu-west-3&retries=3")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a/b/?endpoint_override=x", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("s3://key:sec/ret@bucket/a", "s3://bucket/a"),
        ("gs://anonymous@bucket/a?retry_limit_seconds=3", "gs://anonymous@bucket/a"),
    ],
)
def test_a_url_is_shown_without_keys(url: str, shown: str) -> None:
    assert without_keys(url) == shown


# --- whole or not at all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [r"POST .*\?uploads", "partNumber=2", "partNumber=3", r"POST .*\?uploadId"])
def test_an_upload_that_fails_leaves_what_was_there(
    failed: str, object_store: ObjectStore, storage: Storage, impatient: None
) -> None:
    storage.write("state.pt", b"old")
    hasty = Storage(storage.url)
    with object_store.failing("error", matching=failed):
        for path in ("state.pt", "new.pt"):
            with pytest.raises(OSError, match=f"^cannot write s3://bucket-.*/some/runs/{path}: .*INTERNAL_FAILURE"):
                hasty.write(path, BIG)
    assert storage.read("state.pt") == b"old"
    assert not storage.exists("new.pt")


def test_a_process_that_dies_in_an_upload_leaves_nothing(object_store: ObjectStore, storage: Storage) -> None:
    program = "import sys; from trainer.records import Storage; Storage(sys.argv[1]).write('new.pt', bytes(25 * 10**6))"
    object_store.seen()
    with object_store.failing("late", matching="partNumber=3"):
        writer = subprocess.Popen([sys.executable, "-c", program, storage.url])
        while not any("partNumber=3" in request for request in object_store.seen()):
            assert writer.poll() is None
            time.sleep(0.02)
        writer.kill()
        writer.wait()
    assert not storage.exists("new.pt")


def test_ctrl_c_between_opening_and_writing_leaves_a_whole_object(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting:
        def open_output_stream(self, path: str) -> NativeFile:
            stream = filesystem.open_output_stream(path)
            signal.raise_signal(signal.SIGINT)
            return stream

    filesystem = storage._filesystem
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    with monkeypatch.context() as patch:
        patch.setattr(storage, "_filesystem", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            storage.write("spec.json", b"whole")
    signal.signal(signal.SIGINT, before)
    for thread in threading.enumerate():
        if thread.name == "put":
            thread.join()
    assert storage.read("spec.json") == b"whole"


def test_a_read_that_breaks_off_gives_no_half_file(
    object_store: ObjectStore, storage: Storage, impatient: None
) -> None:
    storage.write("state.pt", b"12" * 50_000)
    with (
        object_store.failing("cut", matching="GET .*state"),
        pytest.raises(OSError, match=r"^cannot read .*/runs/state\.pt"),
    ):
        Storage(storage.url).read("state.pt")


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_file_that_goes_while_it_is_read_is_not_there(
    size: int, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Removing:
        def open_input_stream(self, path: str) -> NativeFile:
            stream = filesystem.open_input_stream(path)
            filesystem.delete_file(path)
            return stream

        def get_file_info(self, path: str) -> FileInfo:
            return filesystem.get_file_info(path)

    storage.write("a", bytes(size))
    assert not storage.exists("b")
    filesystem = storage._filesystem
    monkeypatch.setattr(storage, "_filesystem", Removing())
    with pytest.raises(FileNotFoundError, match=rf"^{storage.name}/a is gone"):
        storage.read("a")


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_of_thousands_is_listed_and_removed_whole(
    object_store: ObjectStore, storage: Storage, bucket: str
) -> None:
    names = [f"{number:04}" for number in range(2100)]  # a page holds 1000
    object_store.fill(bucket, [f"some/runs/folder/{name}/x" for name in names])
    assert storage.names("folder") == names
    storage.remove("folder")
    assert storage.names("folder") == []


def test_the_marker_of_an_empty_folder_is_no_file(object_store: ObjectStore, storage: Storage, bucket: str) -> None:
    object_store.fill(bucket, ["some/runs/folder/", "some/runs/full/", "some/runs/full/a"])
    assert storage.exists("folder")
    assert storage.names("folder") == []
    assert storage.names("full") == ["a"]


# --- not found, or not to be told ---------------------------------------------------------------------------------


def questions(storage: Storage) -> dict[str, Callable[[], object]]:
    """Everything a storage can be asked or told."""
    return {
        "read": lambda: storage.read("a"),
        "list": lambda: storage.names("a"),
        "look at": lambda: storage.exists("a"),
        "look at ": lambda: storage.modified("a"),
        "remove": lambda: storage.remove("a"),
        "write": lambda: storage.write("a", b""),
    }


def errors_of(storage: Storage) -> list[OSError]:
    """What is raised, which must be an OSError that names the path and is none of those for "not found"."""
    errors = []
    for what, ask in questions(storage).items():
        with pytest.raises(OSError, match=f"^cannot {what.strip()} {storage.name}/a: ") as caught:
            ask()
        assert not isinstance(caught.value, FileNotFoundError | NotADirectoryError)
        errors.append(caught.value)
    return errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_there", [True, False])
def test_an_answer_that_tells_nothing_is_an_error(
    kind: str, is_there: bool, object_store: ObjectStore, storage: Storage, impatient: None
) -> None:
    if is_there:
        storage.write("a", b"1")
    with object_store.failing(kind):
        advice = "look at the keys" if kind == "denied" else "after 1 more tries"
        assert all(advice in str(error) for error in errors_of(Storage(storage.url)))


def test_silence_is_an_error_after_a_while(object_store: ObjectStore, storage: Storage, impatient: None) -> None:
    started = time.monotonic()
    with object_store.failing("late"), pytest.raises(OSError, match=r"^cannot read .*/a: .*Timeout was reached"):
        Storage(storage.url).read("a")
    assert 2 <= time.monotonic() - started < LATE_SECONDS


def test_a_bucket_that_is_not_there_is_no_empty_storage(object_store: ObjectStore) -> None:
    for error in errors_of(Storage(object_store.url("no-such-bucket/runs"))):
        assert "look at the bucket's name and at where it is asked for" in str(error)


def test_keys_for_a_folder_alone_are_enough(object_store: ObjectStore, storage: Storage, bucket: str) -> None:
    with object_store.failing("denied", matching=rf"HEAD /{bucket}\?"):
        assert not storage.exists("a")
        storage.write("a", b"1")
        assert storage.names("nothing") == []


def test_a_store_that_is_away_is_waited_for_within_bounds(object_store: ObjectStore) -> None:
    waits = 0.025 * (2**remote.RETRIES - 2)  # the first repetition comes at once, the next after 50 ms
    assert 10 < waits < 15
    assert waits + (remote.RETRIES + 1) * remote.SILENCE_SECONDS < 65


def test_a_request_is_repeated_as_often_as_promised(
    object_store: ObjectStore, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRIES", 4)
    hasty = Storage(storage.url)
    object_store.seen()
    with object_store.failing("error"), pytest.raises(OSError, match=r"\(after 4 more tries; "):
        hasty.read("a")
    assert len(object_store.seen()) == 5


@pytest.mark.parametrize("retries", [1, pytest.param(None, marks=pytest.mark.chaos)])
def test_a_refusing_store_is_left_after_the_last_try(
    retries: int | None, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries = remote.RETRIES if retries is None else retries
    monkeypatch.setattr(remote, "RETRIES", retries)
    storage, started = Storage(f"s3://bucket/runs?endpoint_override=http://{NOWHERE}"), time.monotonic()
    with pytest.raises(OSError, match=rf"^cannot read .*/a: .*Could not connect.* \(after {retries} more tries"):
        storage.read("a")
    waits = 0.025 * (2**retries - 2)
    assert 0.9 * waits <= time.monotonic() - started < waits + 2


def test_google_is_waited_for_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remote.GOOGLE_SECONDS <= 60
    monkeypatch.setattr(remote, "GOOGLE_SECONDS", 1)
    storage = Storage(f"gs://anonymous@bucket/runs?scheme=http&endpoint_override={NOWHERE}")
    started = time.monotonic()
    with pytest.raises(OSError, match=r"^cannot read gs://anonymous@bucket/runs/a: .*UNAVAILABLE.*run again once the"):
        storage.read("a")
    assert time.monotonic() - started < 10


# --- trials -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What four steps in one go leave in a folder."""
    room = Room(SPEC, small_options(small_data, tmp_path_factory.mktemp("unbroken")))
    assert room.run() == Outcome("done")
    return room.finished()


@pytest.fixture
def room(small_data: Path, storage: Storage) -> Room:
    """The same trial on S3."""
    return Room(SPEC, small_options(small_data, storage.url))


def test_a_trial_on_s3_stops_goes_on_and_ends_as_in_a_folder(room: Room, unbroken: Finished) -> None:
    assert room.run(StopAt(3)).kind == "stopped"
    assert (state := trial_state(room.storage, room.spec.trial_id)).kind == "partial"
    assert state.step == 3
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken)
    left = ["attempts", "result.json", "spec.json", "weights.pt"]
    assert room.storage.names(trial_path(room.spec.trial_id)) == left


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("state.pt", "changed"),
        *(pytest.param(*case, marks=pytest.mark.chaos) for case in product(FILES, ("cut", "changed", "gone"))),
    ],
)
def test_a_damaged_newest_checkpoint_on_s3_falls_back(file: str, damage: str, room: Room, unbroken: Finished) -> None:
    host = StopAt(100)
    room.run(StopAt(3))
    room.damage(room.checkpoint_file(3, file), damage)
    assert room.run(host) == Outcome("done")
    assert host.told[0]["step"] == 3
    assert room.finished().equals(unbroken)


def test_no_file_of_a_trial_holds_the_keys_of_its_storage(
    object_store: ObjectStore, bucket: str, small_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = object_store.url(f"{bucket}/runs", keys="mykey:s3cr%2Ft@")
    room = Room(small_spec("supervised", num_steps=4), small_options(small_data, url))
    with caplog.at_level(logging.DEBUG, "mixgrid"):
        room.run(StopAt(3))
        room.damage(room.checkpoint_file(3, "state.pt"), "changed")
        room.run()
    assert not any(word in content for content in contents_of(room.storage, "trials") for word in (b"s3cr", b"mykey"))
    assert "s3cr" not in caplog.text


def contents_of(storage: Storage, path: str) -> list[bytes]:
    """Every file below a folder."""
    names = storage.names(path)
    return [c for name in names for c in contents_of(storage, f"{path}/{name}")] if names else [storage.read(path)]


# --- trials over a store that fails -------------------------------------------------------------------------------

SHARES = {"error": 0.2, "dropped": 0.2, "lost": 0.2, "cut": 0.2, "late": 0.03}


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("error", 0),
        ("lost", 0),
        *(pytest.param(*case, marks=pytest.mark.chaos) for case in product(SHARES, range(1, 6))),
    ],
)
def test_a_trial_over_a_failing_store_ends_the_same(
    kind: str, seed: int, object_store: ObjectStore, room: Room, unbroken: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENCE_SECONDS", 1.0)
    object_store.seen()
    with object_store.failing(kind, share=SHARES[kind], seed=seed):
        tries = outcomes_until_done(room, [3, 100])
    assert room.finished().equals(unbroken)
    assert len(object_store.seen()) > 150
    assert len(tries) <= (6 if kind == "lost" else 2)


def outcomes_until_done(room: Room, stops: list[int]) -> list[str]:
    """What each go at a trial ended in; one that breaks off is followed by another, as the driver would."""
    outcomes = []
    for _ in range(20):
        try:
            outcomes.append(room.run(StopAt(stops[0])).kind)
            stops = stops[1:] or stops
        except OSError as error:
            outcomes.append(str(error))
        if outcomes[-1] == "done":
            break
    assert outcomes[-1] == "done", outcomes
    return outcomes


class FirstStep(NoHost):
    """Notes the first step that is told, and dies."""

    def __init__(self) -> None:
        self.step = 0

    def report(self, progress: Progress) -> None:
        self.step = int(progress["step"])
        raise Killed


@pytest.fixture
def partial(room: Room, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A trial of which three steps are safe, in a storage whose requests are not repeated."""
    room.run(StopAt(3))
    monkeypatch.setattr(remote, "RETRIES", 0)
    return room


@pytest.mark.parametrize(
    ("kind", "lasts"),
    [("error", 1), *(pytest.param(*case, marks=pytest.mark.chaos) for case in product(KINDS, (1, 1000)))],
)
def test_no_request_that_fails_lets_a_trial_seem_less_than_it_is(
    kind: str, lasts: int, object_store: ObjectStore, partial: Room
) -> None:
    trial_id = partial.spec.trial_id
    questions: list[Callable[[], object]] = [
        lambda: trial_state(partial.storage, trial_id).step,
        lambda: (newest_checkpoint(partial.storage, trial_id) or [None])[0],
        lambda: is_done(partial.storage, trial_id),
    ]
    for ask in questions:
        object_store.seen()
        expected, count = ask(), len(object_store.seen())
        unnoticed = []
        for first in range(count):
            with object_store.failing(kind, first=first, lasts=lasts), suppress(OSError):
                assert ask() == expected
                unnoticed.append(first)
        assert unnoticed in ([], [1] if kind == "denied" else [])  # the bucket need not be shown to all keys


@pytest.mark.parametrize("first", [2, 10, *(pytest.param(k, marks=pytest.mark.chaos) for k in range(32))])
def test_no_request_that_fails_lets_a_trial_start_anew(first: int, object_store: ObjectStore, partial: Room) -> None:
    host = FirstStep()
    with object_store.failing("error", first=first), pytest.raises((OSError, Killed)):
        partial.run(host)
    assert host.step in (0, 4)


@pytest.mark.parametrize("first", [12, 70, *(pytest.param(k, marks=pytest.mark.chaos) for k in range(2, 100, 3))])
def test_a_store_that_goes_away_for_good_ends_a_trial_by_name_and_another_go_ends_it_the_same(
    first: int, object_store: ObjectStore, room: Room, unbroken: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRIES", 0)
    with object_store.failing("error", first=first), pytest.raises(OSError, match=f"^cannot .* {room.storage.name}/.*"):
        room.run()
    host = StopAt(100)
    assert room.run(host) == Outcome("done")
    assert room.finished().equals(unbroken)
    assert first < 70 or not host.told or host.told[0]["step"] > 1


def test_a_store_that_fails_after_the_result_leaves_a_trial_that_is_done(
    object_store: ObjectStore, room: Room, unbroken: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRIES", 0)
    with object_store.failing("error", matching=r"failure\.json"):
        assert room.run() == Outcome("done")
    assert is_done(room.storage, room.spec.trial_id)
    assert room.finished().equals(unbroken)
