"""Attempts of one trial at the same time, as two drivers on one storage make them: in every order the same numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chaos.baton import Baton, Turn
from tests.chaos.faults import DEATHS, Fault, FaultyStorage
from tests.chaos.rooms import Room, Variant, open_room
from tests.chaos.trivial import told_by
from trainer.reading import (
    find_commits,
    read_result,
    read_segments,
    trial_state,
)
from trainer.records import DamagedRecord, trial_path

ALWAYS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
QUICK = settings(ALWAYS, max_examples=80, derandomize=True)
LONG = settings(ALWAYS, max_examples=3000)
READINGS = 4

FAULTS = st.builds(Fault, st.integers(0, 60), st.sampled_from(DEATHS))
TURNS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=20)
VARIANTS = st.builds(
    Variant,
    num_steps=st.sampled_from([4, 6, 8]),
    start=st.sampled_from([None, 1]),
    checkpoint=st.integers(1, 3),
    keep=st.sampled_from(["weights", "checkpoints", "nothing"]),
    is_local=st.booleans(),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A trial, deaths before, and what each of the attempts at once dies of, in an order of turns.

    `late_clock` is the thread whose host's clock is late, so that its attempt has the name of an early one.
    """

    variant: Variant
    before: list[Fault]
    faults: list[Fault | None]
    turns: list[Turn]
    late_clock: int | None = None


SCENES = st.builds(
    Scene,
    VARIANTS,
    st.lists(FAULTS, max_size=2),
    st.lists(st.none() | FAULTS, min_size=2, max_size=3),
    TURNS,
    st.none() | st.integers(0, 2),
)


class Watcher:
    """Looks at the result at every operation of anybody: once there it stays, whole and right."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._storage = FaultyStorage(room.options.storage)
        self._seen: tuple[bytes | None, ...] = ()

    def look(self, _where: str = "") -> None:
        found = tuple(self._content(name) for name in ("result.json", "weights.pt"))
        if found != self._seen:
            was_done = bool(self._seen) and self._seen[0] is not None
            self._seen = found
            assert (self._room.check_result() is not None) or not was_done, "a result went away"

    def _content(self, name: str) -> bytes | None:
        try:
            return self._storage.read(trial_path(self._room.trial_id, name))
        except FileNotFoundError:
            return None


def read_along(room: Room, pause: Callable[[str], None]) -> None:
    """A person who asks for the state and the numbers again and again while others train."""
    storage, was_done = FaultyStorage(room.options.storage, pause=pause), False
    for _ in range(READINGS):
        state = trial_state(storage, room.trial_id)
        assert state.kind in (("done",) if was_done else ("done", "partial", "missing"))
        result = read_result(storage, room.trial_id)
        was_done = state.kind == "done"
        assert result is not None or not was_done
        if result is not None:
            assert told_by(list(read_segments(storage, room.trial_id, result.segments))) == room.expected.records
        for commit in find_commits(storage, room.trial_id):
            records = told_by(list(read_segments(storage, room.trial_id, commit.segments)))
            assert records == [record for record in room.expected.records if record[1] <= commit.step]


def play(room: Room, scene: Scene) -> None:
    """Die as drawn, then run all attempts and a reader at once, then one undisturbed."""
    for fault in scene.before:
        room.run(fault)
    baton, watcher = Baton(scene.turns), Watcher(room)

    def pause(where: str) -> None:
        watcher.look()
        baton.pause(where)

    def attempt(number: int, fault: Fault | None) -> None:
        room.late_clock = scene.late_clock == number
        assert room.run(fault, pause=pause) in ("done", "died", "raised")

    acts: Sequence[Callable[[], None]] = [
        *(partial(attempt, number, fault) for number, fault in enumerate(scene.faults)),
        partial(read_along, room, pause),
    ]
    baton.run(acts)
    assert room.run() == "done"
    watcher.look()


def check_scene(scene: Scene) -> None:
    with open_room(scene.variant) as room:
        play(room, scene)
        room.check_done()
        room.check_resumes()


@pytest.mark.parametrize("looked", range(16))
def test_an_attempt_overtaken_while_it_looks_for_checkpoints_goes_on_from_newer_ones(looked: int) -> None:
    variant = Variant(num_steps=6, start=1, checkpoint=1)
    for overtaken in (50, 90):  # operations of another attempt, the last ones after its result
        turns = [(0, looked), (1, overtaken), (0, 1000)]
        check_scene(Scene(variant, before=[Fault(22, "before")], faults=[None, None], turns=turns))


@pytest.mark.parametrize("far", range(40, 90, 5))
def test_what_a_late_attempt_seals_after_the_result_is_not_gone_on_from(far: int) -> None:
    variant = Variant(num_steps=4, start=None, checkpoint=1)
    # The late one waits before its first commit; the first comes far; a third begins; the first ends, the late one
    # seals a step that is long overtaken, and the third looks for checkpoints.
    turns = [(2, 14), (1, far), (0, 3), (1, 1000), (2, 6), (0, 1000)]
    check_scene(Scene(variant, before=[], faults=[None, None, None], turns=turns))


def test_records_that_go_away_under_a_resume_are_no_failure_of_the_trial() -> None:
    with open_room(Variant(checkpoint=1)) as room:
        room.run(Fault(22, "before"))
        asked: list[str] = []

        def pause(where: str) -> None:
            if where.startswith("read") and where.endswith(".jsonl") and where in asked:  # verified, now to be used
                room.storage.remove(where.removeprefix("read "))
            asked.append(where)

        with pytest.raises(DamagedRecord, match="is gone"):
            room.run(pause=pause)
        assert trial_state(room.storage, room.trial_id).kind == "partial"
        assert room.run() == "done"
        room.check_done()


@QUICK
@given(SCENES)
def test_attempts_at_once_in_any_order_leave_the_same_numbers(scene: Scene) -> None:
    check_scene(scene)


@pytest.mark.chaos
@LONG
@given(SCENES)
def test_attempts_at_once_in_thousands_of_orders_leave_the_same_numbers(scene: Scene) -> None:
    check_scene(scene)
