"""Sealed records that rotted, were cut, swapped, or sealed again with nonsense: never a number, never a crash.

Plan, run and table read the same storage and must say the same of it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from orchestrator.lease import live_drivers, process_started, this_host
from orchestrator.plan import survey, to_run
from results.bundle import read_records
from results.bundle_text import withheld
from results.explanation import entries_of
from results.staleness import find_stale
from results.verify import verify
from tests.contracts import small_options, small_spec
from tests.fuzz.hammer import EFFORTS, damaged, hammer, mixgrid, mutated_json, tried
from tests.results.builders import (
    ATTEMPT,
    EIGHTH,
    RowStub,
    TableStub,
    change_sealed,
    judged,
    put_done,
    put_failed,
    put_partial,
    read,
    spec_of,
)
from tests.results.test_staleness import here
from trainer.checkpoint import newest_checkpoint
from trainer.host import NoHost
from trainer.reading import (
    _brief_at_sight,
    find_commits,
    read_accepted,
    read_brief,
    read_failure,
    read_manifests,
    read_result,
    read_superseded,
    trial_state,
)
from trainer.records import (
    Acceptance,
    AcceptedChange,
    DamagedRecord,
    DriverRecord,
    EvaluationRecord,
    attempt_path,
    superseded_path,
    trial_path,
)
from trainer.run import is_done, run_trial
from trainer.storage import Storage

TABLE = TableStub(rows=(RowStub("ComplexMix"),), fractions=(EIGHTH,))
DONE, FAILED, HALF = (spec_of("ComplexMix", seed=seed) for seed in (0, 1, 2))
RESULT = trial_path(DONE.trial_id, "result.json")
COMMIT = attempt_path(HALF.trial_id, ATTEMPT, "checkpoint-00000010", "commit.json")
SEGMENT = attempt_path(HALF.trial_id, ATTEMPT, "metrics-00000010.jsonl")
DRIVER = "drivers/d1.json"
SEALED = (
    RESULT,
    attempt_path(DONE.trial_id, ATTEMPT, "manifest.json"),
    trial_path(FAILED.trial_id, "failure.json"),
    COMMIT,
    attempt_path(HALF.trial_id, ATTEMPT, "manifest.json"),
    DRIVER,
)
ASIDE = (trial_path(DONE.trial_id, "accepted.json"), superseded_path(DONE.trial_id, ATTEMPT))
"""Sealed records on which no number rests."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A trial that is done, one that failed, one half done, and the driver that holds the last."""
    storage = Storage(str(tmp_path_factory.mktemp("records") / "runs"))
    put_done(storage, DONE, judged(20, 0.625, classes=(0.5, None, 0.75)), judged(20, 0.5, "teacher"))
    put_failed(storage, FAILED)
    put_partial(storage, HALF, judged(10, 0.25), judged(10, 0.5, "teacher"))
    pid = os.getpid()
    driver = DriverRecord(
        driver="d1",
        host=this_host(),
        pid=pid,
        process_started=process_started(pid),
        table="stub",
        trial_ids=(HALF.trial_id,),
        finished=False,
    )
    storage.write(DRIVER, driver.sealed())
    change = AcceptedChange(attempt=ATTEMPT, accepted=1.0, by="ada", why="seen", facts={"code": "f" * 64})
    storage.write(ASIDE[0], Acceptance(trial_id=DONE.trial_id, changes=(change,)).sealed())
    storage.write(ASIDE[1], storage.read(RESULT))
    return storage


@contextmanager
def holding(storage: Storage, path: str, content: bytes) -> Iterator[None]:
    """A storage in which a file has another content for a while."""
    file = Path(storage.locate(path))
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def with_file(storage: Storage, path: str, content: bytes, look: Callable[[], None]) -> None:
    """Look at the storage while a file has another content."""
    with holding(storage, path, content):
        look()


def numbers(storage: Storage) -> set[tuple[Any, ...]]:
    """What the table would print from, after plan, run and table were found to agree."""
    planned = survey(TABLE, storage)
    running = {item.cell.trial_id for item in planned if item.state == "running"}
    frames = read(storage, TABLE, running=running)
    assert list(frames.cells["state"]) == [item.state for item in planned]
    done = {item.cell.trial_id for item in planned if item.state == "done"}
    assert done == {spec.trial_id for spec in (DONE, FAILED, HALF) if is_done(storage, spec.trial_id)}
    assert set(frames.results["trial_id"]) == done
    assert not done & {cell.trial_id for cell in to_run(planned, retry_failed=True)}
    found = frames.results[["trial_id", "step", "network", "class_name", "iou"]].fillna(-1.0)
    return set(found.itertuples(index=False, name=None))


def assert_agreement(storage: Storage) -> None:
    """Whatever the numbers are, all that read them say the same."""
    numbers(storage)


def look_everywhere(storage: Storage) -> None:
    """Everything else that reads records: nothing of it may raise."""
    live_drivers(storage)
    read(storage, TABLE, include_partial=True)
    find_stale(storage, TABLE, here(code="f" * 64))
    verify(storage, TABLE, here=here())
    withheld(read_records(storage, [spec.trial_id for spec in (DONE, FAILED, HALF)]))
    for cell in TABLE.cells():
        entries_of(storage, cell, here=here(), with_losses=True)
    for spec in (DONE, FAILED, HALF):
        read_accepted(storage, spec.trial_id)
        read_superseded(storage, spec.trial_id)
        read_manifests(storage, spec.trial_id)
        read_failure(storage, spec.trial_id)
        newest_checkpoint(storage, spec.trial_id)


def sealed(body: Any) -> bytes:
    """A record with a seal that fits, whatever it says."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({**body, "sha256": digest} if isinstance(body, dict) else [body, digest]).encode()


def body_of(storage: Storage, path: str) -> dict[str, Any]:
    """What a record says, without its seal."""
    body: dict[str, Any] = json.loads(storage.read(path))
    del body["sha256"]
    return body


# --- bytes --------------------------------------------------------------------------------------------------------


@EFFORTS
def test_damaged_bytes_are_never_another_number(effort: int, storage: Storage) -> None:
    pristine = numbers(storage)
    files = {path: storage.read(path) for path in (*SEALED, *ASIDE, SEGMENT)}

    def check(damage: tuple[str, bytes]) -> None:
        path, content = damage

        def look() -> None:
            found = numbers(storage)
            assert found == pristine or (not found and path == RESULT)
            look_everywhere(storage)

        with_file(storage, path, content, look)

    one_of_all = st.sampled_from(sorted(files)).flatmap(
        lambda path: st.tuples(st.just(path), damaged(files[path], others=tuple(files.values())))
    )
    hammer(check, one_of_all, examples=30, effort=effort)


# --- sealed nonsense ----------------------------------------------------------------------------------------------


def slow_ious(confusion: list[list[int]]) -> list[float | None]:
    """IoU by counting pixels one class at a time."""
    classes = range(len(confusion))
    ious: list[float | None] = []
    for c in classes:
        union = sum(confusion[t][p] for t in classes for p in classes if c in (t, p))
        ious.append(confusion[c][c] / union if union else None)
    return ious


def assert_honest(body: dict[str, Any]) -> None:
    """A result that counts says what its own confusion matrices and its spec say, by a second implementation."""
    assert body["num_steps"] == body["spec"]["num_steps"] == 20
    asked = {(step, network) for step in (10, 20) for network in ("student", "teacher")}
    assert len(body["evaluations"]) == 4
    assert {(record["step"], record["network"]) for record in body["evaluations"]} == asked
    for record in body["evaluations"]:
        assert all(type(count) is int and count >= 0 for row in record["confusion"] for count in row)
        ious = slow_ious(record["confusion"])
        defined = [iou for iou in ious if iou is not None]
        assert [iou is None for iou in record["class_iou"]] == [iou is None for iou in ious]
        assert [iou for iou in record["class_iou"] if iou is not None] == pytest.approx(defined, abs=1e-8)
        assert record["mean_iou"] == (pytest.approx(sum(defined) / len(defined), abs=1e-8) if defined else None)


@EFFORTS
def test_a_result_that_was_sealed_again_counts_only_where_it_is_honest(effort: int, storage: Storage) -> None:
    def check(body: Any) -> None:
        def look() -> None:
            if is_done(storage, DONE.trial_id):
                assert_honest(body)

        with_file(storage, RESULT, sealed(body), look)

    hammer(check, mutated_json(body_of(storage, RESULT)), examples=150, effort=effort)


def same_in_brief(storage: Storage) -> None:
    """A result is accepted in brief where it is accepted in full, and then says the same."""
    result, refusal = tried(lambda: read_result(storage, DONE.trial_id), DamagedRecord)
    brief, refusal_of_brief = tried(lambda: read_brief(storage, DONE.trial_id), DamagedRecord)
    assert refusal == refusal_of_brief
    assert (result is None) == (brief is None)
    if result is not None and brief is not None:
        shared = result.model_dump(exclude={"evaluations": {"__all__": {"confusion"}}})
        assert brief.model_dump() == shared


@EFFORTS
def test_a_brief_is_accepted_exactly_where_its_result_is(effort: int, storage: Storage) -> None:
    content, body = storage.read(RESULT), body_of(storage, RESULT)
    assert _brief_at_sight(content, DONE.trial_id) is not None  # by the quick way, which is what this is about
    assert _brief_at_sight(sealed(body), DONE.trial_id) is not None
    same_in_brief(storage)

    def check(found: bytes) -> None:
        with_file(storage, RESULT, found, lambda: same_in_brief(storage))

    hammer(check, damaged(content) | mutated_json(body).map(sealed), examples=150, effort=effort)
    for lie in LIES.values():
        changed = body_of(storage, RESULT)
        lie(changed)
        check(sealed(changed))


@EFFORTS
def test_plan_run_and_table_agree_on_a_result_that_was_sealed_again(effort: int, storage: Storage) -> None:
    def check(body: Any) -> None:
        with_file(storage, RESULT, sealed(body), lambda: assert_agreement(storage))

    hammer(check, mutated_json(body_of(storage, RESULT), most=1), examples=20, effort=effort)


@EFFORTS
def test_other_records_that_were_sealed_again_change_no_number_and_crash_nothing(effort: int, storage: Storage) -> None:
    pristine = numbers(storage)
    bodies = {path: body_of(storage, path) for path in (*SEALED, *ASIDE) if path != RESULT}

    def check(change: tuple[str, Any]) -> None:
        def look() -> None:
            assert numbers(storage) == pristine
            look_everywhere(storage)

        with_file(storage, change[0], sealed(change[1]), look)

    one_of_all = st.sampled_from(sorted(bodies)).flatmap(
        lambda path: st.tuples(st.just(path), mutated_json(bodies[path]))
    )
    hammer(check, one_of_all, examples=40, effort=effort)


def set_in(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one place of a record."""

    def change(body: dict[str, Any]) -> None:
        part: Any = body
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value

    return change


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a mean that the counts do not give": set_in("evaluations", 0, "mean_iou", value=0.635),
    "a mean that is no number": set_in("evaluations", 0, "mean_iou", value=float("nan")),
    "a mean in words": set_in("evaluations", 0, "mean_iou", value="0.625"),
    "a mean that is true": set_in("evaluations", 0, "mean_iou", value=True),
    "no mean": set_in("evaluations", 0, "mean_iou", value=None),
    "a class that the counts do not give": set_in("evaluations", 0, "class_iou", 0, value=0.51),
    "a class that is defined": set_in("evaluations", 0, "class_iou", 1, value=0.5),
    "another number of undefined classes": set_in("evaluations", 0, "num_undefined", value=0),
    "counts below zero": set_in("evaluations", 0, "confusion", 0, 2, value=-1),
    "counts below zero that weigh each other out": lambda body: (
        set_in("evaluations", 0, "confusion", 0, 1, value=-1)(body),
        set_in("evaluations", 0, "confusion", 1, 0, value=1)(body),
    ),
    "a time that is no number": set_in("wall_seconds", value=float("nan")),
    "counts above every other": set_in("evaluations", 0, "confusion", 0, 0, value=10**30),
    "a count taken out": lambda body: body["evaluations"][0]["confusion"][0].pop(),
    "a row of counts taken out": lambda body: body["evaluations"][0]["confusion"].pop(),
    "no counts": set_in("evaluations", 0, "confusion", value=[]),
    "another size": set_in("evaluations", 0, "eval_size", value=[8, 8]),
    "an evaluation taken out": lambda body: body["evaluations"].pop(),
    "no evaluation": set_in("evaluations", value=[]),
    "an evaluation twice": lambda body: body["evaluations"].append(body["evaluations"][0]),
    "the teacher as student": set_in("evaluations", 1, "network", value="student"),
    "a step that was not asked for": set_in("evaluations", 0, "step", value=19),
    "a step after the last": set_in("evaluations", 0, "step", value=30),
    "a step below zero": set_in("evaluations", 0, "step", value=-20),
    "fewer steps": set_in("num_steps", value=10),
    "fewer steps, in the spec too": lambda body: (body.update(num_steps=10), body["spec"].update(num_steps=10)),
    "another seed": set_in("spec", "seed", value=7),
    "a spec that is none": set_in("spec", value={"sead": 1}),
    "another trial": set_in("trial_id", value=FAILED.trial_id),
    "a class less": lambda body: body["class_names"].pop(),
    "a class twice": set_in("class_names", value=["road", "road", "car"]),
    "a class called mean": set_in("class_names", value=["road", "sky", "mean"]),
    "an attempt elsewhere": set_in("attempt", value="../../x"),
    "a field more": set_in("mean_iou", value=0.9),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_sealed_result_with_a_lie_in_it_trains_again(lie: str, storage: Storage) -> None:
    body = body_of(storage, RESULT)
    LIES[lie](body)

    def look() -> None:
        assert numbers(storage) == set()
        state = trial_state(storage, DONE.trial_id)
        assert (state.kind, "result not accepted" in state.detail) == ("partial", True)
        assert DONE.trial_id in {cell.trial_id for cell in to_run(survey(TABLE, storage), retry_failed=False)}

    with_file(storage, RESULT, sealed(body), look)


@pytest.mark.parametrize("path", SEALED[1:4] + SEALED[5:], ids=lambda path: path.rsplit("/")[-1])
@pytest.mark.parametrize("value", [10**30, -1, float("nan"), float("inf"), "5", True], ids=str)
def test_a_record_with_a_number_that_is_none_counts_nowhere(path: str, value: Any, storage: Storage) -> None:
    pristine = numbers(storage)
    body = body_of(storage, path)
    fields = [name for name, given in body.items() if type(given) in (int, float)]
    assert fields

    def look() -> None:
        assert accepted(storage, path) == []
        if name == fields[-1]:
            assert numbers(storage) == pristine
            look_everywhere(storage)

    for name in fields:
        is_fine = value in (-1, 10**30) and type(body[name]) is float  # a strange time, but one
        if not is_fine:
            with_file(storage, path, sealed({**body, name: value}), look)


def accepted(storage: Storage, path: str) -> list[Any]:
    """The record at a path, where its readers accept it."""
    trial_id = path.split("/")[1]
    if path.endswith("commit.json"):
        return list(find_commits(storage, trial_id))
    if path.endswith("failure.json"):
        failure = read_failure(storage, trial_id)
        return [] if failure is None else [failure]
    return read_manifests(storage, trial_id)[0] if path.endswith("manifest.json") else list(live_drivers(storage))


def test_a_record_says_only_what_its_counts_give() -> None:
    fields = judged(10, 0.5).model_dump()
    assert EvaluationRecord(**fields) == judged(10, 0.5)
    with pytest.raises(ValueError, match=r"mean_iou 0\.6 does not follow from the confusion matrix, which gives 0\.5"):
        EvaluationRecord(**{**fields, "mean_iou": 0.6})


def test_a_lie_in_which_all_agrees_is_seen_by_its_seal(storage: Storage) -> None:
    body = json.loads(storage.read(RESULT))
    for record in body["evaluations"]:
        record["network"] = {"student": "teacher", "teacher": "student"}[record["network"]]
    pristine = numbers(storage)
    with_file(storage, RESULT, json.dumps(body).encode(), lambda: expect(storage, set()))
    del body["sha256"]
    with_file(storage, RESULT, sealed(body), lambda: expect_other(storage, pristine))


def test_only_an_acceptance_that_was_written_so_accepts(storage: Storage) -> None:
    body = body_of(storage, ASIDE[0])
    assert find_stale(storage, TABLE, here(code="f" * 64)) == {}
    stale = {DONE.trial_id: "code c0dec0dec0de -> ffffffffffff"}
    for lie in (b"{}", sealed({**body, "trial_id": FAILED.trial_id}), sealed({**body, "changes": []})):
        with holding(storage, ASIDE[0], lie):
            assert find_stale(storage, TABLE, here(code="f" * 64)) == stale


def expect(storage: Storage, wanted: set[tuple[Any, ...]]) -> None:
    """These numbers and no others."""
    assert numbers(storage) == wanted


def expect_other(storage: Storage, unwanted: set[tuple[Any, ...]]) -> None:
    """Other numbers than these: what is sealed by somebody who knows how is theirs."""
    assert numbers(storage) not in (set(), unwanted)


def test_a_manifest_of_another_trial_counts_no_images(storage: Storage) -> None:
    mine, other = (attempt_path(spec.trial_id, ATTEMPT, "manifest.json") for spec in (DONE, HALF))
    before = read(storage, TABLE).attempts

    def look() -> None:
        after = read(storage, TABLE)
        assert list(after.attempts["trial_id"]) == [HALF.trial_id]
        assert f"is that of {HALF.trial_id}" in after.cells["detail"][0]

    assert list(before["trial_id"]) == [DONE.trial_id, HALF.trial_id]
    with_file(storage, mine, storage.read(other), look)


def test_a_checkpoint_under_another_step_does_not_count(storage: Storage, tmp_path: Path) -> None:
    own = Storage(str(tmp_path))
    put_partial(own, HALF, judged(10, 0.25))
    own.write(COMMIT.replace("00000010", "00000015"), own.read(COMMIT))
    change_sealed(own, COMMIT, set_in("step", value=12))
    assert find_commits(own, HALF.trial_id) == []


# --- training after it --------------------------------------------------------------------------------------------


def test_a_lie_is_replaced_by_the_number_that_was_there_before(small_data: Path, tmp_path: Path) -> None:
    spec, options = small_spec("supervised"), small_options(small_data, tmp_path)
    storage = Storage(options.storage)
    assert run_trial(spec, options, NoHost()).kind == "done"
    before = read_result(storage, spec.trial_id)
    assert before is not None
    change_sealed(storage, trial_path(spec.trial_id, "result.json"), set_in("evaluations", 0, "mean_iou", value=0.9))
    assert trial_state(storage, spec.trial_id).kind == "partial"
    assert run_trial(spec, options, NoHost()).kind == "done"
    after = read_result(storage, spec.trial_id)
    assert after is not None
    assert [record.confusion for record in after.evaluations] == [record.confusion for record in before.evaluations]
    assert after.weights_sha256 == before.weights_sha256


# --- commands -----------------------------------------------------------------------------------------------------

OWN = f"""
from tests.results.builders import METHODS
from trainer.spec import Evaluation, Synthetic, TinyNetwork
from experiments.table import Frame, Fraction, Row, Table
FRAME = Frame(dataset=Synthetic(), network=TinyNetwork(), initial_weights="random", num_steps=20,
              evaluation=Evaluation(every=10))
STUB = Table(name="stub", title="Stub", frame=FRAME, rows=(Row("ComplexMix", METHODS["ComplexMix"]),),
             fractions=({EIGHTH!r},), seeds=(0, 1, 2))
"""


COMMANDS = (
    ("status",),
    ("plan",),
    ("table",),
    ("explain", "ComplexMix@1/8"),
    ("logs", "ComplexMix@1/8"),
    ("verify",),
    ("accept", "--why", "seen"),
    ("bundle",),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_commands_go_on_over_damaged_records(words: tuple[str, ...], storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "stub.py"
    path.write_text(OWN)
    storage.write(attempt_path(DONE.trial_id, ATTEMPT, "log.txt"), b"\xff\xfe not text\n")
    may_complain = (0, 1) if words == ("verify",) else (0,)
    with ExitStack() as stack:
        stack.enter_context(holding(storage, ASIDE[0], storage.read(ASIDE[0])))  # `accept` writes a new one
        for damaged_path in (None, *ASIDE, *SEALED, SEGMENT):
            if damaged_path is not None:
                stack.enter_context(holding(storage, damaged_path, b'{"sha256": ""}'))
            told = mixgrid(words[0], str(path), *words[1:], "--storage", storage.url)
            assert told.code in may_complain, told
            assert told.err == ""
            is_done = "1 stale" in told.out  # its code is of nobody's
            assert words != ("status",) or is_done == (damaged_path in (None, *ASIDE))


def test_pruning_leaves_what_counts_beside_damaged_records(storage: Storage, tmp_path: Path) -> None:
    pristine = numbers(storage)
    copy = Storage(str(tmp_path / "runs"))
    shutil.copytree(storage.locate("."), copy.locate("."))
    for path in SEALED:
        if path not in (RESULT, COMMIT):
            copy.write(path, b"{}")
    assert mixgrid("prune", "--storage", copy.url).code == 0
    assert numbers(copy) == pristine
