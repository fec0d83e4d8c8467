"""Stopping, dying and coming back change nothing: six steps are some steps, a break, a resume and the rest.

Bit for bit on the CPU: weights of student and teacher, training records, judgements.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.contracts import TRIALS, Killed, KilledAt, StopAt, small_options, small_spec
from tests.rooms import Finished, Room
from tests.worlds import run_ranks, train_all
from trainer.data.pool_labels import PoolLabels
from trainer.host import NoHost
from trainer.methods.base import Network, PoolPart
from trainer.methods.dst_cbc import DSTCBCMethod
from trainer.reading import read_segments, trial_state
from trainer.records import (
    Manifest,
    attempt_path,
    trial_path,
)
from trainer.run import Outcome, run_trial
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage

Open = Callable[..., Room]


@pytest.fixture
def open_room(small_data: Path, tmp_path: Path) -> Open:
    """Opens storages: `open_room(method, folder)`, with options to change."""

    def open_(name: str, folder: str = "broken", **changes: object) -> Room:
        return Room(small_spec(name), small_options(small_data, tmp_path / folder, **changes))

    return open_


@pytest.fixture(scope="module")
def unbroken(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Finished]:
    """What six steps in one go leave, per method and interval of logging; trained once."""
    rooms: dict[tuple[str, int], Finished] = {}

    def train_(name: str, log_every: int = 1) -> Finished:
        if (name, log_every) not in rooms:
            options = small_options(small_data, tmp_path_factory.mktemp("unbroken"), log_every=log_every)
            room = Room(small_spec(name), options)
            assert room.run() == Outcome("done")
            rooms[name, log_every] = room.finished()
        return rooms[name, log_every]

    return train_


# Where the break comes, and the step that is safe then. The supervised start is two steps long.
BREAKS = {"in the start": 1, "at the phase change": 2, "in the middle": 4, "before the result": 6}


def break_and_resume(spec: TrialSpec, options: RunOptions, step: int) -> None:
    """What each rank does: train as far as a step is safe, and go on from there as another attempt."""
    with pytest.MonkeyPatch.context() as patch:
        if step == spec.num_steps:
            patch.setattr("trainer.attempt.Attempt._finish", die)
            with pytest.raises(Killed):
                run_trial(spec, options, NoHost())
        else:
            assert run_trial(spec, options, StopAt(step)).message == f"stopped after step {step}"
    train_all({"resumed": spec}, options)


@pytest.mark.parametrize("step", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("name", TRIALS)
def test_six_steps_are_some_a_break_a_resume_and_the_rest(
    name: str, step: int, open_room: Open, unbroken: Callable
) -> None:
    room = open_room(name)
    break_and_resume(room.spec, room.options, step)
    assert room.finished().equals(unbroken(name))


@dataclass(frozen=True)
class Places:
    """Storages of the trials that two ranks trained, unbroken under step 0 and else broken after a step."""

    folder: Path
    data: Path

    def options(self, step: int) -> RunOptions:
        return small_options(self.data, self.folder / str(step))


def break_everything(places: Places) -> None:
    """What each of two ranks does: every method unbroken, and broken at every place."""
    specs = {name: small_spec(name) for name in TRIALS}
    train_all(specs, places.options(0))
    for step in BREAKS.values():
        for spec in specs.values():
            break_and_resume(spec, places.options(step), step)


@pytest.fixture(scope="module")
def on_two_ranks(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    places = Places(tmp_path_factory.mktemp("two-ranks"), small_data)
    run_ranks(break_everything, 2, places)
    return places


@pytest.mark.parametrize("step", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("name", TRIALS)
def test_a_break_on_two_ranks_changes_nothing(name: str, step: int, on_two_ranks: Places) -> None:
    broken, whole = (Room(small_spec(name), on_two_ranks.options(place)).finished() for place in (step, 0))
    assert broken.equals(whole)


@pytest.mark.parametrize("name", TRIALS)
def test_every_break_really_was_one(name: str, on_two_ranks: Places) -> None:
    for step in BREAKS.values():
        room = Room(small_spec(name), on_two_ranks.options(step))
        manifests = [
            Manifest.find(room.storage, attempt_path(room.spec.trial_id, attempt, "manifest.json"))
            for attempt in room.attempts()
        ]
        assert [manifest.resumed_from_step for manifest in manifests] == [0, step]


def test_a_stop_after_every_step_changes_nothing(open_room: Open, unbroken: Callable) -> None:
    room = open_room("complexmix")
    outcomes = [room.run(StopAt(0)).kind for _ in range(6)]
    assert outcomes == ["stopped"] * 5 + ["done"]
    assert room.finished().equals(unbroken("complexmix"))


def test_a_stop_wished_at_the_last_step_finds_the_trial_done(open_room: Open, unbroken: Callable) -> None:
    room = open_room("complexmix")
    assert room.run(StopAt(6)) == Outcome("done")
    assert room.finished().equals(unbroken("complexmix"))


@pytest.mark.parametrize(("died_at", "safe"), [(3, 2), (6, 4)])
def test_a_checkpoint_between_two_records_keeps_their_mean(
    died_at: int, safe: int, open_room: Open, unbroken: Callable
) -> None:
    room = open_room("classmix", log_every=3, checkpoint_every=2)
    with pytest.raises(Killed):
        room.run(KilledAt(died_at))
    assert trial_state(room.storage, room.spec.trial_id).step == safe
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken("classmix", log_every=3))


def test_a_replayed_step_is_recorded_once(open_room: Open) -> None:
    room = open_room("classmix", checkpoint_every=2)
    for step in (4, 6):  # steps 3 and 5 are done twice
        with pytest.raises(Killed):
            room.run(KilledAt(step))
    assert room.run() == Outcome("done")
    seen = [(record.kind, record.step, getattr(record, "network", "")) for record in room.finished().records]
    assert sorted(seen) == sorted(set(seen))
    assert [step for kind, step, _ in seen if kind == "train"] == [1, 2, 3, 4, 5, 6]


def test_a_killed_trial_leaves_a_readable_folder(open_room: Open) -> None:
    room = open_room("classmix", checkpoint_every=2)
    with pytest.raises(Killed):
        room.run(KilledAt(5))
    state = trial_state(room.storage, room.spec.trial_id)
    assert (state.kind, state.step) == ("partial", 4)
    assert len(list(read_segments(room.storage, room.spec.trial_id, room.newest().segments))) == 6


def test_a_trial_killed_before_its_result_only_writes_it(
    open_room: Open, unbroken: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = open_room("classmix")
    with monkeypatch.context() as patch:
        patch.setattr("trainer.attempt.Attempt._finish", die)
        with pytest.raises(Killed):
            room.run()
    assert trial_state(room.storage, room.spec.trial_id).step == 6
    host = StopAt(100)
    assert room.run(host) == Outcome("done")
    assert host.told == []
    assert room.finished().equals(unbroken("classmix"))


def die(*_: object) -> None:
    raise Killed


def test_a_done_trial_is_not_run_again(open_room: Open) -> None:
    room, host = open_room("supervised"), StopAt(100)
    room.run()
    attempts, result = room.attempts(), room.storage.read(trial_path(room.spec.trial_id, "result.json"))
    assert room.run(host) == Outcome("done")
    assert (room.attempts(), host.told) == (attempts, [])
    assert room.storage.read(trial_path(room.spec.trial_id, "result.json")) == result
    assert len(attempts) == 1


@pytest.mark.parametrize("file", ["state.pt", "commit.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_newest_checkpoint_falls_back(file: str, damage: str, open_room: Open, unbroken: Callable) -> None:
    room, host = open_room("complexmix"), StopAt(100)
    room.run(StopAt(4))
    room.damage(room.checkpoint_file(4, file), damage)
    assert room.run(host) == Outcome("done")
    assert [told["step"] for told in host.told] == [4, 5, 6]
    assert room.finished().equals(unbroken("complexmix"))


def test_falling_back_says_so_in_the_log(open_room: Open) -> None:
    room = open_room("supervised")
    room.run(StopAt(4))
    room.damage(room.checkpoint_file(4, "state.pt"), "changed")
    room.run()
    (log,) = (path.read_text() for path in Path(room.options.storage).rglob("log.txt"))  # the first had nothing to say
    assert "checkpoint after step 4 is not used" in log
    assert "resumed after step 3" in log


def test_a_trial_whose_checkpoints_are_all_damaged_starts_anew(open_room: Open, unbroken: Callable) -> None:
    room = open_room("supervised")
    room.run(StopAt(4))
    for step in (3, 4):
        room.damage(room.checkpoint_file(step, "state.pt"), "cut")
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken("supervised"))


def test_a_damaged_newest_segment_falls_back(open_room: Open, unbroken: Callable) -> None:
    room = open_room("supervised")
    room.run(StopAt(4))
    segment = room.newest().segments[-1]
    path = attempt_path(room.spec.trial_id, segment.attempt, segment.file)
    room.damage(path, "changed")
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken("supervised"))


def test_a_damaged_result_is_written_again(open_room: Open, unbroken: Callable) -> None:
    room = open_room("supervised", keep="checkpoints")
    room.run()
    room.damage(trial_path(room.spec.trial_id, "result.json"), "changed")
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken("supervised"))


def test_two_storages_of_one_trial_hold_the_same(open_room: Open, unbroken: Callable) -> None:
    room = open_room("cowmix", "again")
    room.run()
    assert room.finished().equals(unbroken("cowmix"))


def test_a_copied_storage_goes_on_elsewhere(open_room: Open, unbroken: Callable, tmp_path: Path) -> None:
    room = open_room("classmix")
    room.run(StopAt(3))
    shutil.move(tmp_path / "broken", tmp_path / "moved")
    moved = replace(room, options=room.options.model_copy(update={"storage": str(tmp_path / "moved")}))
    assert moved.run() == Outcome("done")
    assert moved.finished().equals(unbroken("classmix"))


def test_a_resume_on_four_ranks_changes_nothing(open_room: Open) -> None:
    rooms = [open_room("supervised", folder, checkpoint_every=3) for folder in ("unbroken", "broken")]
    run_ranks(train_all, 4, {"unbroken": rooms[0].spec}, rooms[0].options)
    run_ranks(break_and_resume, 4, rooms[1].spec, rooms[1].options, 3)
    assert rooms[1].finished().equals(rooms[0].finished())


def test_a_trial_stopped_on_two_ranks_goes_on_alone(open_room: Open, unbroken: Callable) -> None:
    room = open_room("classmix")
    run_ranks(run_trial, 2, room.spec, room.options, StopAt(3))
    assert room.run() == Outcome("done")
    for mine, alone in zip(room.finished().records, unbroken("classmix").records, strict=True):
        assert mine.step == alone.step
        assert getattr(mine, "scalars", {}) == pytest.approx(getattr(alone, "scalars", {}), rel=1e-9)


# --- labels of a round --------------------------------------------------------------------------------------------


def dying_at(suffix: str, *, is_written: bool) -> Callable[..., None]:
    """A `Storage.write` that dies at the first file of a round's labels of that suffix, before or after writing it."""
    write = Storage.write

    def dying(storage: Storage, path: str, content: bytes) -> None:
        is_fatal = "/labels/" in path and path.endswith(suffix)
        if is_written or not is_fatal:
            write(storage, path, content)
        if is_fatal:
            raise Killed

    return dying


@pytest.mark.parametrize("is_written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("suffix", [".arrow", ".json"])
@pytest.mark.parametrize("name", ["dst_cbc", "dst_cbc going on from its best"])
def test_a_death_while_labels_of_a_round_are_kept_changes_nothing(
    name: str, suffix: str, is_written: bool, open_room: Open, unbroken: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = open_room(name)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", dying_at(suffix, is_written=is_written))
        with pytest.raises(Killed):
            room.run()
    assert room.run() == Outcome("done")
    assert room.finished().equals(unbroken(name))


def test_labels_that_were_kept_are_not_made_again(open_room: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    room = open_room("dst_cbc")
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", dying_at(".json", is_written=True))
        with pytest.raises(Killed):
            room.run()
    made: list[int] = []
    label_pool = DSTCBCMethod.label_pool

    def noting(method: DSTCBCMethod, student: Network, pool: PoolPart, step: int) -> PoolLabels:
        made.append(step)
        return label_pool(method, student, pool, step)

    monkeypatch.setattr(DSTCBCMethod, "label_pool", noting)
    assert room.run() == Outcome("done")
    assert made == [4]  # the round after two steps had its labels


@pytest.mark.parametrize("place", ["within a round", "at its start"])
def test_a_checkpoint_without_the_labels_of_its_round_is_refused(place: str, open_room: Open) -> None:
    room = open_room("dst_cbc")
    assert room.run(StopAt({"within a round": 3, "at its start": 4}[place])).kind == "stopped"
    for name in room.storage.names(trial_path(room.spec.trial_id, "labels")):
        room.storage.remove(trial_path(room.spec.trial_id, "labels", name))
    outcome = room.run()
    if place == "within a round":
        assert outcome.kind == "refused"
        assert "gone or damaged" in outcome.message
    else:
        assert outcome == Outcome("done")  # the next round has labels of its own
