"""A trial that dies at any point of its storage, any number of times, ends in the numbers of an undisturbed one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chaos.faults import DEATHS, ERRORS, Fault, FaultKind, Operation
from tests.chaos.rooms import Damaged, Room, Variant, open_room


@dataclass(frozen=True, slots=True)
class Case:
    """A trial, and of what attempts at it died before the one that is looked at."""

    variant: Variant
    before: tuple[Fault, ...] = ()


LOCAL = Case(Variant(num_steps=6, start=2))
CASES = {
    "folder": LOCAL,
    "resumed": Case(Variant(), (Fault(26, "before"),)),
    "object store": Case(Variant(num_steps=6, start=4, is_local=False, progress_seconds=0.0, keep="nothing")),
    "kept checkpoints": Case(Variant(num_steps=4, start=None, checkpoint=1, keep="checkpoints")),
}
ALWAYS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
QUICK = settings(ALWAYS, max_examples=60, derandomize=True)
LONG = settings(ALWAYS, max_examples=3000)


@contextmanager
def told(what: object) -> Iterator[None]:
    """Name what was done in an error's notes."""
    try:
        yield
    except BaseException as error:
        error.add_note(str(what))
        raise


def kinds_at(operation: Operation) -> tuple[FaultKind, ...]:
    """The deaths that leave different things behind at an operation."""
    if operation.name == "write":
        return ("before", "middle", "after")
    if operation.name == "remove" and not operation.path.endswith(".json"):
        return DEATHS
    return ("before", "after") if operation.name == "remove" else ("before",)


def deaths(operations: list[Operation]) -> list[Fault]:
    """Every place where an attempt that asks for these operations can die."""
    return [Fault(at, kind) for at, operation in enumerate(operations) for kind in kinds_at(operation)]


def errors(operations: list[Operation]) -> list[Fault]:
    """Every place where its storage can fail: for one operation, and for several."""
    once = [Fault(at, kind) for at, kind in product(range(len(operations)), ERRORS)]
    return [fault for fault in once if fault.kind != "full" or operations[fault.at].name == "write"] + [
        Fault(at, "away", lasts=12) for at in range(len(operations))
    ]


def operations_of(case: Case) -> list[Operation]:
    with open_room(case.variant) as room:
        for fault in case.before:
            room.run(fault)
        return room.operations()


def check_faults(room: Room, *faults: Fault) -> None:
    """Run with each fault in turn, then without; look after every run."""
    with told(faults):
        for fault in faults:
            assert room.run(fault) in ("done", "died", "raised")
            room.check_state()
        assert room.run() == "done"
        room.check_done()
        room.check_goings()


@pytest.mark.parametrize("name", CASES)
def test_a_death_at_any_operation_changes_nothing(name: str) -> None:
    case, replayed = CASES[name], 0
    for fault in deaths(operations_of(case)):
        with open_room(case.variant) as room:
            check_faults(room, *case.before, fault)
            replayed += room.replayed
    assert replayed > 0


@pytest.mark.parametrize("name", ["folder", "object store"])
def test_an_error_of_storage_at_any_operation_changes_nothing(name: str) -> None:
    for fault in errors(operations_of(CASES[name])):
        with open_room(CASES[name].variant) as room:
            check_faults(room, fault)


def test_an_error_of_storage_after_the_result_leaves_the_trial_done() -> None:
    operations = operations_of(LOCAL)
    written = next(at for at, operation in enumerate(operations) if operation.path.endswith("result.json") and at > 9)
    for at in range(written + 1, len(operations)):
        with open_room(LOCAL.variant) as room:
            assert room.run(Fault(at, "away", lasts=20)) == "done"
            room.check_done()


@pytest.mark.parametrize("what", ["state", "exchanged state", "segment"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(what: Damaged) -> None:
    with open_room(Variant(checkpoint=2)) as room:
        assert room.stop_at(6) == "stopped"
        room.damage(what)
        assert room.run() == "done"
        assert room.goings[-1].steps[0] == 4
        room.check_done()


@pytest.mark.chaos
def test_two_deaths_at_any_two_operations_change_nothing() -> None:
    operations = operations_of(LOCAL)
    first = [fault for fault in deaths(operations) if operations[fault.at].name in ("write", "remove")]
    for one, two in product(first, deaths(operations)):
        with open_room(LOCAL.variant) as room:
            check_faults(room, one, two)


def test_no_checkpoint_is_removed_twice() -> None:
    operations = operations_of(Case(Variant(checkpoint=1)))
    removed = [operation.path for operation in operations if operation.name == "remove"]
    assert sorted(removed) == sorted(set(removed))


# --- sequences of faults ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stop:
    """The host asks to stop at a step."""

    step: int


@dataclass(frozen=True, slots=True)
class LackOfMemory:
    """The device has too little memory at a step; the attempt after it has enough."""

    step: int


@dataclass(frozen=True, slots=True)
class Damage:
    """The newest checkpoint, or the newest records behind it, rot or are exchanged."""

    what: Damaged


Disturbance = Fault | Stop | LackOfMemory | Damage

PLACES = st.integers(0, 60)
DISTURBANCES: st.SearchStrategy[Disturbance] = st.one_of(
    st.builds(Fault, PLACES, st.sampled_from(DEATHS)),
    st.builds(Fault, PLACES, st.sampled_from(ERRORS), st.integers(1, 12)),
    st.builds(Stop, st.integers(1, 12)),
    st.builds(LackOfMemory, st.integers(0, 11)),
    st.builds(Damage, st.sampled_from(["state", "exchanged state", "segment"])),
)


@st.composite
def variants(draw: st.DrawFn) -> Variant:
    """Trials and cadences, few of which divide each other."""
    num_steps = draw(st.sampled_from([4, 6, 8, 10, 12]))
    every = st.integers(1, 5)
    return Variant(
        num_steps=num_steps,
        start=draw(st.none() | st.integers(0, min(5, num_steps - 1))),
        log=draw(every),
        checkpoint=draw(every),
        evaluate=draw(every),
        keep=draw(st.sampled_from(["weights", "checkpoints", "nothing"])),
        progress_seconds=draw(st.sampled_from([0.0, 10.0])),
        is_local=draw(st.booleans()),
    )


def disturb(room: Room, disturbance: Disturbance) -> None:
    match disturbance:
        case Fault():
            room.run(disturbance)
        case Stop():
            if room.stop_at(disturbance.step) == "stopped":  # nothing of it is trained again
                assert room.newest_valid_step() == room.goings[-1].steps[-1] + 1
        case LackOfMemory():
            room.run_until_memory_lacks(disturbance.step)
        case Damage():
            room.damage(disturbance.what)


def check_disturbances(variant: Variant, disturbances: list[Disturbance]) -> None:
    with open_room(variant) as room:
        for disturbance in disturbances:
            disturb(room, disturbance)
            room.check_state()
        assert room.run() == "done"
        room.check_done()
        room.check_goings()


SEQUENCES = st.lists(DISTURBANCES, min_size=1, max_size=6)


@QUICK
@given(variants(), SEQUENCES)
def test_any_sequence_of_faults_changes_nothing(variant: Variant, disturbances: list[Disturbance]) -> None:
    check_disturbances(variant, disturbances)


@pytest.mark.chaos
@LONG
@given(variants(), SEQUENCES)
def test_thousands_of_sequences_of_faults_change_nothing(variant: Variant, disturbances: list[Disturbance]) -> None:
    check_disturbances(variant, disturbances)
