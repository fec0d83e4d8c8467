"""A glance says what reading says, and never of records that are no longer those that were read."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from results import glance
from results.glance import MEMORY, OWN, Glances, leave_glance
from results.reading import read_all
from results.staleness import facts_of
from results.usage import hours_line, read_usage
from tests.results.builders import ATTEMPT, EIGHTH, change_sealed, put_failed, put_manifest, put_score, spec_of
from tests.results.holes import RUNNING, TABLE
from trainer import side_by_side
from trainer.reading import read_result, read_trial
from trainer.records import attempt_path, trial_path
from trainer.storage import Storage

SPEC = spec_of("ClassMix", EIGHTH, 0)
TRIAL = SPEC.trial_id
RESULT = trial_path(TRIAL, "result.json")
OWN_PATH = trial_path(TRIAL, OWN)
MANIFEST = attempt_path(TRIAL, ATTEMPT, "manifest.json")
IDS = list(dict.fromkeys(cell.trial_id for cell in TABLE.cells()))


@pytest.fixture(autouse=True)
def nothing_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "_YOUNG_NS", 0)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "runs"))
    put_score(storage, "ClassMix", EIGHTH, 0, 0.75)
    return storage


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What storage is asked of trials, in order: files read, folders listed and whatever is looked at, by path."""
    paths: list[str] = []

    def listen(name: str) -> None:
        real = getattr(Storage, name)

        def ask(storage: Storage, path: str) -> object:
            if path.startswith("trials"):
                paths.append(path)
            return real(storage, path)

        monkeypatch.setattr(Storage, name, ask)

    for name in ("read", "names", "exists", "modified"):
        listen(name)
    return paths


def after_a_look(storage: Storage, memory: Path) -> Glances:
    """The next look at a storage, after one that was remembered."""
    first = Glances(storage, memory)
    first.look(TRIAL)
    first.remember()
    return Glances(storage, memory)


def rewrite_in_place(storage: Storage) -> None:
    """Damage a result, and leave its size and the time of its change as they were."""
    path = Path(storage.locate(RESULT))
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"~")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def move_attempt(storage: Storage, name: str) -> None:
    Path(storage.locate(attempt_path(TRIAL, ATTEMPT))).rename(storage.locate(attempt_path(TRIAL, name)))


CHANGES: dict[str, Callable[[Storage], None]] = {
    "another result": lambda it: change_sealed(it, RESULT, lambda body: body.update(wall_seconds=7.0)),
    "a damaged result of the same size and time": rewrite_in_place,
    "no result any more": lambda it: it.remove(RESULT),
    "another manifest": lambda it: change_sealed(it, MANIFEST, lambda body: body.update(device="NVIDIA H100")),
    "no manifest any more": lambda it: it.remove(MANIFEST),
    "a further attempt": lambda it: put_manifest(it, SPEC, attempt=f"{ATTEMPT}-b"),
    "an attempt of another name": lambda it: move_attempt(it, f"{ATTEMPT}-b"),
    "a word of an end": lambda it: it.write(attempt_path(TRIAL, ATTEMPT, "ended-0000.json"), b"{}"),
}


def test_a_glance_says_what_reading_says_of_every_kind_of_trial(holes_storage: Storage, memory: Path) -> None:
    read = {name: read_trial(holes_storage, name) for name in IDS}
    for _cold_then_warm in range(2):
        glances = Glances(holes_storage, memory)
        seen = {name: glances.look(name) for name in IDS}
        glances.remember()
        assert {name: state for name, (state, _) in seen.items()} == {name: state for name, (state, _) in read.items()}
        assert {state.kind for state, _ in seen.values()} == {"done", "failed", "partial", "missing"}
        for name, (_, found) in seen.items():
            result = read[name][1]
            assert (found is None) == (result is None)
            if found is not None and result is not None:
                assert (found.attempt, found.wall_seconds) == (result.attempt, result.wall_seconds)
                assert found.made_with == facts_of(holes_storage, result)
                assert found.attempts == read_all(holes_storage, name).attempts
                assert found.ran_on == ("cpu", 1)


def test_hours_are_those_of_reading_all(holes_storage: Storage, memory: Path) -> None:
    glances = Glances(holes_storage, memory)
    for name in IDS:
        glances.look(name)
    known = {name: found.attempts for name, found in glances.seen.items()}
    told = read_usage(holes_storage, IDS, running=RUNNING, done=known)
    assert told == read_usage(holes_storage, IDS, running=RUNNING)
    assert "in results" in hours_line(told)


def test_the_next_look_at_what_is_done_opens_nothing(storage: Storage, memory: Path, asked: list[str]) -> None:
    next_look = after_a_look(storage, memory)
    assert sorted(path for path in asked if path.endswith(".json")) == sorted([OWN_PATH, MANIFEST, RESULT])  # each once
    del asked[:]
    state, found = next_look.look(TRIAL)
    assert (state.kind, state.step) == ("done", 20)
    assert found is not None
    assert asked == []


def test_few_questions_are_asked_of_the_file_system(
    storage: Storage, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_look, listed = after_a_look(storage, memory), list[str]()
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or real(path))
    assert len(glance._records_of(storage, TRIAL)) == 2  # result, manifest
    assert len(listed) == 2  # attempts, and the one that there is
    assert next_look.look(TRIAL)[1] is not None
    assert len(listed) == 4
    next_look.look_ahead([TRIAL])
    assert next_look.look(TRIAL)[1] is not None
    assert len(listed) == 6


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_read_again(change: str, storage: Storage, memory: Path, asked: list[str]) -> None:
    next_look = after_a_look(storage, memory)
    CHANGES[change](storage)
    del asked[:]
    seen = next_look.look(TRIAL)
    assert RESULT in asked
    storage.remove(MEMORY)
    assert seen == Glances(storage, memory).look(TRIAL)
    assert (TRIAL in next_look.seen) == (seen[1] is not None)


def test_what_has_changed_says_something_else(storage: Storage, memory: Path) -> None:
    next_look = after_a_look(storage, memory)
    change_sealed(storage, RESULT, lambda body: body.update(wall_seconds=7.0))
    found = next_look.look(TRIAL)[1]
    assert found is not None
    assert found.wall_seconds == 7.0


def test_what_changed_just_now_is_held_against_its_bytes(
    storage: Storage, memory: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(glance, "_YOUNG_NS", 3600 * 10**9)
    opened: list[str] = []
    real = glance._Record.digest
    monkeypatch.setattr(glance._Record, "digest", lambda record: opened.append(record.path) or real(record))
    next_look = after_a_look(storage, memory)
    del asked[:], opened[:]
    in_full = next_look.look(TRIAL)
    assert in_full[1] is not None
    assert (sorted(opened), asked) == (sorted(map(storage.locate, (RESULT, MANIFEST))), [])
    monkeypatch.setattr(glance, "_YOUNG_NS", 0)  # it has grown old
    next_look = Glances(storage, memory)
    assert next_look.look(TRIAL) == in_full
    next_look.remember()
    del opened[:]
    assert Glances(storage, memory).look(TRIAL) == in_full
    assert opened == []


def test_a_file_is_young_though_the_time_of_its_change_was_set_back(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "_YOUNG_NS", 3600 * 10**9)
    os.utime(storage.locate(RESULT), (0, 0))
    assert glance._mark(glance._records_of(storage, TRIAL)["result.json"], "digest") == ["digest"]


def test_what_is_new_is_remembered_though_what_was_known_is_looked_at_after_it(
    storage: Storage, memory: Path, asked: list[str]
) -> None:
    glances = after_a_look(storage, memory)
    put_score(storage, "ClassMix", EIGHTH, 1, 0.5)
    new = spec_of("ClassMix", EIGHTH, 1).trial_id
    for name in (new, TRIAL):
        glances.look(name)
    glances.remember()
    del asked[:]
    assert Glances(storage, memory).look(new)[1] is not None
    assert asked == []


@pytest.fixture(params=[MEMORY, OWN_PATH])
def kept_at(request: pytest.FixtureRequest, storage: Storage, memory: Path) -> Path:
    """The file of the one thing that is kept of the trial: the memory of a look, or what was left at its end."""
    if request.param == MEMORY:
        after_a_look(storage, memory)
    else:
        leave_glance(storage, TRIAL)
    return Path(storage.locate(request.param))


@pytest.mark.parametrize("kept", [b"", b"{}", b"0" * 64 + b"\n{}"], ids=["empty", "no seal", "a wrong seal"])
def test_what_is_damaged_is_not_heeded(
    storage: Storage, memory: Path, asked: list[str], kept_at: Path, kept: bytes
) -> None:
    kept_at.write_bytes(kept)
    del asked[:]
    assert Glances(storage, memory).look(TRIAL)[1] is not None
    assert RESULT in asked


def test_a_flipped_bit_says_nothing(storage: Storage, memory: Path, kept_at: Path) -> None:
    flipped = kept_at.read_bytes().replace(b'"wall_seconds":1.0', b'"wall_seconds":9.0')
    assert flipped != kept_at.read_bytes()
    kept_at.write_bytes(flipped)
    found = Glances(storage, memory).look(TRIAL)[1]
    assert found is not None
    assert found.wall_seconds == 1.0


@pytest.mark.usefixtures("kept_at")
def test_other_code_reads_for_itself(
    storage: Storage, memory: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "_readers", lambda: "other code")
    del asked[:]
    Glances(storage, memory).look(TRIAL)
    assert RESULT in asked


def test_of_two_that_write_at_once_one_stays_whole(storage: Storage, memory: Path, asked: list[str]) -> None:
    put_score(storage, "ClassMix", EIGHTH, 1, 0.5)
    other = spec_of("ClassMix", EIGHTH, 1).trial_id
    one, two = Glances(storage, memory), Glances(storage, memory)
    one.look(TRIAL)
    two.look(other)
    one.remember()
    two.remember()
    del asked[:]
    after = Glances(storage, memory)
    assert after.look(other)[1] is not None
    assert asked == []
    assert after.look(TRIAL)[1] is not None  # read again, no more
    assert storage.names("trials") == sorted((TRIAL, other))
    assert sorted(path.name for path in Path(storage.name).iterdir()) == [MEMORY, "trials"]


def test_whoever_looks_next_reads_nothing_again(storage: Storage, memory: Path, asked: list[str]) -> None:
    after_a_look(storage, memory)
    assert not memory.exists()
    del asked[:]
    assert Glances(storage, memory / "another machine").look(TRIAL)[1] is not None
    assert asked == []


def test_a_machine_that_cannot_write_to_the_storage_remembers_for_itself(
    storage: Storage, memory: Path, asked: list[str]
) -> None:
    refuse_memory(Path(storage.locate(MEMORY)))
    next_look = after_a_look(storage, memory)
    del asked[:]
    assert next_look.look(TRIAL)[1] is not None
    assert asked == []
    Glances(storage, memory / "another machine").look(TRIAL)
    assert RESULT in asked
    assert [path.suffix for path in memory.rglob("*") if path.is_file()] == [".json"]  # and no draft


@pytest.mark.parametrize("overtaken", ["that of the storage", "its own"])
def test_of_two_memories_the_one_that_fits_the_files_speaks(
    overtaken: str, storage: Storage, memory: Path, asked: list[str]
) -> None:
    shared = Path(storage.locate(MEMORY))
    is_shared = overtaken == "that of the storage"
    remember_in(shared, storage, memory, is_shared=is_shared)
    change_sealed(storage, RESULT, lambda body: body.update(wall_seconds=7.0))
    remember_in(shared, storage, memory, is_shared=not is_shared)
    put_score(storage, "ClassMix", EIGHTH, 1, 0.5)
    glances = Glances(storage, memory)
    del asked[:]
    found = glances.look(TRIAL)[1]
    assert asked == []
    assert found is not None
    assert found.wall_seconds == 7.0
    glances.look(spec_of("ClassMix", EIGHTH, 1).trial_id)
    glances.remember()
    del asked[:]
    Glances(storage, memory / "another machine").look(TRIAL)
    assert asked == []  # what fitted was kept, not what had been overtaken


def remember_in(shared: Path, storage: Storage, memory: Path, *, is_shared: bool) -> None:
    """Look as one who knows nothing, and leave the memory in the storage or on the machine alone; the other stays."""
    before = shared.read_bytes() if shared.exists() else None
    shared.unlink(missing_ok=True)
    if is_shared:
        after_a_look(storage, memory / "another machine")
        return
    refuse_memory(shared)
    after_a_look(storage, memory)
    shared.rmdir()
    if before is not None:
        shared.write_bytes(before)


def refuse_memory(path: Path) -> None:
    """No file can be written where a folder is."""
    path.mkdir()


def test_a_memory_that_cannot_be_written_anywhere_only_costs_time(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    refuse_memory(Path(storage.locate(MEMORY)))
    glances = Glances(storage, tmp_path / "file")
    assert glances.look(TRIAL)[1] is not None
    glances.remember()


def test_a_trial_that_is_not_done_is_read_each_time(storage: Storage, memory: Path, asked: list[str]) -> None:
    failed = spec_of("ClassMix", EIGHTH, 2)
    put_failed(storage, failed)
    for _ in range(2):
        glances = Glances(storage, memory)
        del asked[:]
        state, found = glances.look(failed.trial_id)
        glances.remember()
        assert (state.kind, found) == ("failed", None)
        assert trial_path(failed.trial_id, "failure.json") in asked


def test_damage_beside_a_result_is_not_remembered(storage: Storage, memory: Path, asked: list[str]) -> None:
    change_sealed(storage, MANIFEST, lambda body: body.update(attempt="another"))
    next_look = after_a_look(storage, memory)
    del asked[:]
    found = next_look.look(TRIAL)[1]
    assert MANIFEST in asked
    result = read_result(storage, TRIAL)
    assert found is not None
    assert result is not None
    assert found.made_with == facts_of(storage, result)
    assert found.ran_on is None


def test_a_result_that_was_set_aside_in_between_is_seen_no_more(storage: Storage, memory: Path) -> None:
    glances = Glances(storage, memory)
    glances.look(TRIAL)
    assert list(glances.seen) == [TRIAL]
    storage.remove(RESULT)
    glances.look(TRIAL)
    assert list(glances.seen) == []


def test_trials_that_are_gone_are_forgotten(storage: Storage, memory: Path) -> None:
    glances = after_a_look(storage, memory)
    storage.remove(f"trials/{TRIAL}")
    put_score(storage, "ClassMix", EIGHTH, 1, 0.5)
    glances.look(spec_of("ClassMix", EIGHTH, 1).trial_id)
    glances.remember()
    file = Path(storage.locate(MEMORY))
    assert TRIAL.encode() not in file.read_bytes()


def test_a_remote_storage_is_always_read(bucket: str, object_store, memory: Path) -> None:  # type: ignore[no-untyped-def]
    storage = Storage(object_store.url(bucket))
    put_score(storage, "ClassMix", EIGHTH, 0, 0.75)
    next_look = after_a_look(storage, memory)
    change_sealed(storage, RESULT, lambda body: body.update(wall_seconds=7.0))
    found = next_look.look(TRIAL)[1]
    assert found is not None
    assert found.wall_seconds == 7.0
    assert not storage.exists(MEMORY)
    assert not memory.exists()


# --- what whoever finished a trial left -----------------------------------------------------------------------------


def test_the_first_look_at_a_trial_with_a_glance_opens_no_record(
    storage: Storage, memory: Path, asked: list[str]
) -> None:
    in_full = Glances(storage, memory).look(TRIAL)
    leave_glance(storage, TRIAL)
    del asked[:]
    glances = Glances(storage, memory)
    assert glances.look(TRIAL) == in_full
    assert asked == [OWN_PATH]
    glances.remember()
    del asked[:]
    assert Glances(storage, memory).look(TRIAL) == in_full
    assert asked == []


def test_glances_left_say_what_reading_says_of_every_kind_of_trial(holes_storage: Storage, memory: Path) -> None:
    without = Glances(holes_storage, memory)
    seen = {name: without.look(name) for name in IDS}
    for name in IDS:
        leave_glance(holes_storage, name)
    left = {name for name in IDS if holes_storage.exists(trial_path(name, OWN))}
    assert left == without.seen.keys()
    with_them = Glances(holes_storage, memory)
    assert {name: with_them.look(name) for name in IDS} == seen
    assert with_them.seen == without.seen


@pytest.mark.parametrize("change", CHANGES)
def test_a_glance_left_of_other_records_says_nothing(
    change: str, storage: Storage, memory: Path, asked: list[str]
) -> None:
    leave_glance(storage, TRIAL)
    CHANGES[change](storage)
    del asked[:]
    seen = Glances(storage, memory).look(TRIAL)
    assert RESULT in asked
    storage.remove(OWN_PATH)
    assert seen == Glances(storage, memory).look(TRIAL)


def test_what_changes_while_a_glance_is_left_is_read_again(
    storage: Storage, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = glance.read_trial

    def change_and_read(*args: object) -> object:
        change_sealed(storage, RESULT, lambda body: body.update(wall_seconds=7.0))
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(glance, "read_trial", change_and_read)
    leave_glance(storage, TRIAL)
    monkeypatch.setattr(glance, "read_trial", real)
    change_sealed(storage, RESULT, lambda body: body.update(wall_seconds=6.0))
    assert storage.exists(OWN_PATH)
    found = Glances(storage, memory).look(TRIAL)[1]
    assert found is not None
    assert found.wall_seconds == 6.0


def test_a_copied_storage_needs_no_record_read(
    storage: Storage, memory: Path, tmp_path: Path, asked: list[str]
) -> None:
    in_full = after_a_look(storage, memory).look(TRIAL)
    shutil.copytree(storage.name, tmp_path / "copy")
    leave_glance(storage, TRIAL)
    storage.remove(MEMORY)
    shutil.copytree(storage.name, tmp_path / "copy without the memory")
    for name, opened in (("copy", []), ("copy without the memory", [OWN_PATH])):
        for look_ahead in (False, True):
            glances = Glances(Storage(str(tmp_path / name)), memory)
            del asked[:]
            if look_ahead:
                glances.look_ahead([TRIAL])
            assert glances.look(TRIAL) == in_full
            assert asked == opened
        glances.remember()
        assert Glances(Storage(str(tmp_path / name)), memory)._recall(TRIAL) is not None


def test_a_glance_of_the_same_records_in_the_folder_of_another_trial_says_nothing(
    storage: Storage, memory: Path
) -> None:
    leave_glance(storage, TRIAL)
    other = spec_of("ClassMix", EIGHTH, 1).trial_id
    shutil.copytree(storage.locate(trial_path(TRIAL)), storage.locate(trial_path(other)))
    state, found = Glances(storage, memory).look(other)
    assert (state.kind, found) == ("partial", None)
    assert "belongs to" in state.detail


def test_no_glance_is_left_beside_damage_nor_where_it_cannot_be_written(
    storage: Storage, memory: Path, asked: list[str]
) -> None:
    refuse_memory(Path(storage.locate(OWN_PATH)))
    leave_glance(storage, TRIAL)
    assert Glances(storage, memory).look(TRIAL)[1] is not None
    storage.remove(OWN_PATH)
    change_sealed(storage, MANIFEST, lambda body: body.update(attempt="another"))
    leave_glance(storage, TRIAL)
    assert storage.names(trial_path(TRIAL)) == ["attempts", "result.json"]


def test_in_a_remote_storage_no_glance_is_left(bucket: str, object_store) -> None:  # type: ignore[no-untyped-def]
    storage = Storage(object_store.url(bucket))
    put_score(storage, "ClassMix", EIGHTH, 0, 0.75)
    before = storage.names(trial_path(TRIAL))
    leave_glance(storage, TRIAL)
    assert storage.names(trial_path(TRIAL)) == before


def test_what_a_look_loads_of_the_rooms_is_the_code_that_reads_or_only_brings_bytes(
    storage: Storage, memory: Path
) -> None:
    script = f"""
import sys
from pathlib import Path
from results.glance import Glances
from trainer.storage import Storage
assert Glances(Storage({storage.name!r}), Path({str(memory)!r})).look({TRIAL!r})[1] is not None
rooms = ("experiments", "orchestrator", "results", "trainer")
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in rooms), sep="\\n")
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rooms = Path(glance.__file__).parents[1]
    others = {str(path.relative_to(rooms)) for path in {*map(Path, told.stdout.split())} - {*glance.code_that_reads()}}
    assert {*glance.code_that_reads()} <= {*map(Path, told.stdout.split())}
    brings_bytes = {"trainer/remote.py", "trainer/side_by_side.py", "trainer/storage.py"}
    says_what_changed = {"trainer/code.py"}
    assert others == brings_bytes | says_what_changed | {"results/__init__.py", "trainer/__init__.py"}


# --- looking ahead ------------------------------------------------------------------------------------------------


def test_looks_after_a_look_ahead_open_nothing_and_say_the_same(
    holes_storage: Storage, memory: Path, asked: list[str]
) -> None:
    without = Glances(holes_storage, memory)
    seen = {name: without.look(name) for name in IDS}
    for _cold_then_warm in range(2):
        glances = Glances(holes_storage, memory)
        glances.look_ahead(IDS)
        del asked[:]
        assert {name: glances.look(name) for name in IDS} == seen
        assert asked == []
        assert glances.seen == without.seen
        glances.remember()


def test_a_look_ahead_at_what_is_remembered_opens_nothing(storage: Storage, memory: Path, asked: list[str]) -> None:
    next_look = after_a_look(storage, memory)
    del asked[:]
    next_look.look_ahead([TRIAL])
    assert asked == []


def test_what_was_read_ahead_is_remembered_by_the_marks_of_before(storage: Storage, memory: Path) -> None:
    glances = Glances(storage, memory)
    glances.look_ahead([TRIAL])
    change_sealed(storage, RESULT, lambda body: body.update(wall_seconds=7.0))
    assert glances.look(TRIAL)[1] is not None
    glances.remember()
    found = Glances(storage, memory).look(TRIAL)[1]
    assert found is not None
    assert found.wall_seconds == 7.0


def test_many_trials_are_read_ahead_by_other_processes(
    storage: Storage, memory: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(side_by_side, "_cores", lambda: 2)
    monkeypatch.setattr(side_by_side, "_FEWEST", 1)
    monkeypatch.setattr(side_by_side, "_may_fork", lambda: True)
    put_score(storage, "ClassMix", EIGHTH, 1, 0.5)
    ids = [TRIAL, spec_of("ClassMix", EIGHTH, 1).trial_id]
    glances = Glances(storage, memory)
    glances.look_ahead(ids)
    assert asked == []  # by this process
    assert [found is not None for _, found in map(glances.look, ids)] == [True, True]
