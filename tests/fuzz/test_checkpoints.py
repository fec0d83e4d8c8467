"""Segments and states of checkpoints: what is broken falls back, code is not run, what does not fit is refused."""

import copy
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from orchestrator.previewing import trained_network
from tests.contracts import StopAt, small_options, small_spec, small_trial
from tests.fuzz.hammer import ANY_JSON, EFFORTS, damaged, hammer, mutated_json, tried
from tests.orchestrator.conftest import small_table
from tests.results.builders import change_sealed, judged
from trainer.checkpoint import newest_checkpoint, read_state, seal_checkpoint, seal_of, to_bytes
from trainer.fitting import UnfitCheckpoint, refuse_unfit
from trainer.host import NoHost
from trainer.reading import (
    find_commits,
    read_result,
    read_segments,
    trial_state,
)
from trainer.records import (
    Commit,
    DamagedRecord,
    Digests,
    Segment,
    TrainRecord,
    attempt_path,
    checkpoint_name,
    trial_path,
    write_segment,
)
from trainer.run import run_trial
from trainer.storage import Storage
from trainer.trial import Trial

TRIAL, ATTEMPT = "supervised-0123456789ab", "20260101T000000-aaaaaaaa"
DIGESTS = Digests(code="c", data="d", split="s", weights="w", precision="float32")
GOOD = {"step": 10, "weight": torch.arange(6.0).view(2, 3), "names": ["a", None, True], "nested": {"mean": 0.5}}
CONTENT = to_bytes(GOOD)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A good checkpoint after step 10."""
    storage = Storage(str(tmp_path / "runs"))
    records = [TrainRecord(step=5, time=1.0, scalars={"loss": 0.5}), judged(10, 0.5)]
    commit(storage, 10, CONTENT, [write_segment(storage, trial_id=TRIAL, attempt=ATTEMPT, step=10, records=records)])
    return storage


def commit(storage: Storage, step: int, state: bytes, segments: list[Segment]) -> Commit:
    """A checkpoint whose seals fit, whatever is in its files."""
    storage.write(attempt_path(TRIAL, ATTEMPT, checkpoint_name(step), "state.pt"), state)
    sealed = Commit(
        trial_id=TRIAL,
        attempt=ATTEMPT,
        step=step,
        time=float(step),
        digests=DIGESTS,
        world_size=1,
        wall_seconds=1.0,
        files={"state.pt": seal_of(state)},
        segments=tuple(segments),
    )
    seal_checkpoint(storage, sealed)
    return sealed


def segment_of(storage: Storage, content: bytes) -> Segment:
    """A second segment whose seal fits, whatever is in it."""
    name = "metrics-00000020.jsonl"
    Path(storage.locate(attempt_path(TRIAL, ATTEMPT, name))).write_bytes(content)
    return Segment(attempt=ATTEMPT, file=name, sha256_of_file=seal_of(content).sha256_of_file)


def step_taken(storage: Storage) -> int:
    """The step a resume would go on from."""
    found = newest_checkpoint(storage, TRIAL)
    assert found is not None
    return found[0].step


# --- state.pt -----------------------------------------------------------------------------------------------------


@EFFORTS
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch wonders about what it is given
def test_a_state_that_cannot_be_read_falls_back_whatever_its_seal_says(effort: int, storage: Storage) -> None:
    def check(content: bytes) -> None:
        newest = commit(storage, 20, content, [])
        try:
            state = read_state(storage, newest)
        except DamagedRecord:
            assert step_taken(storage) == 10
        else:
            pickle.dumps(state)  # plain numbers, words and tensors: nothing with a life of its own

    hammer(
        check, damaged(CONTENT, others=(b"", b"PK\x03\x04", pickle.dumps(GOOD["names"]))), examples=80, effort=effort
    )


@EFFORTS
def test_a_state_with_changed_bytes_falls_back(effort: int, storage: Storage) -> None:
    commit(storage, 20, CONTENT, [])
    path = Path(storage.locate(attempt_path(TRIAL, ATTEMPT, checkpoint_name(20), "state.pt")))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert step_taken(storage) == (20 if content == CONTENT else 10)

    hammer(check, damaged(CONTENT), examples=40, effort=effort)


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def in_torch_zip(pickled: bytes) -> bytes:
    """A file as torch.save writes it, with another pickle in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(to_bytes({}))) as good, zipfile.ZipFile(out, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, pickled if name.endswith("data.pkl") else good.read(name))
    return out.getvalue()


def global_call(module: str, name: str, argument: str, *, protocol: int) -> bytes:
    """A pickle that calls a function by its name, written by hand."""
    if protocol == 0:
        return f"c{module}\n{name}\n(V{argument}\ntR.".encode()
    word = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    return b"\x80\x04" + word + b"\x93\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R."


CALLS = [("os", "system"), ("builtins", "eval"), ("builtins", "exec"), ("posix", "system"), ("torch", "load")]


@pytest.mark.parametrize("protocol", [0, 4])
@pytest.mark.parametrize("wrap", [bytes, in_torch_zip], ids=["bare", "in torch's zip"])
@pytest.mark.parametrize(("module", "name"), CALLS)
def test_code_in_a_state_is_not_run(
    module: str, name: str, wrap: Callable[[bytes], bytes], protocol: int, storage: Storage, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    argument = f"touch {trace}" if name == "system" else f"open({str(trace)!r}, 'w')"
    newest = commit(storage, 20, wrap(global_call(module, name, argument, protocol=protocol)), [])
    with pytest.raises(DamagedRecord, match="not loaded"):
        read_state(storage, newest)
    assert step_taken(storage) == 10
    assert not trace.exists()


def test_an_object_that_runs_code_is_refused_inside_a_good_state(storage: Storage, tmp_path: Path) -> None:
    payload = Payload(Path.touch, tmp_path / "ran")
    assert pickle.loads(pickle.dumps(payload)) is None  # it would
    (tmp_path / "ran").unlink()
    newest = commit(storage, 20, to_bytes({**GOOD, "weight": payload}), [])
    with pytest.raises(DamagedRecord, match="not loaded"):
        read_state(storage, newest)
    assert not (tmp_path / "ran").exists()


# --- segments -----------------------------------------------------------------------------------------------------

LINE = json.dumps(judged(20, 0.5).model_dump(mode="json"))


@EFFORTS
def test_a_segment_that_holds_no_records_falls_back_whatever_its_seal_says(effort: int, storage: Storage) -> None:
    first = find_commits(storage, TRIAL)[0].segments

    def check(content: bytes) -> None:
        segments = [*first, segment_of(storage, content)]
        commit(storage, 20, CONTENT, segments)
        records, refusal = tried(lambda: list(read_segments(storage, TRIAL, segments)), DamagedRecord)
        if records is None:
            assert "metrics-00000020.jsonl" in refusal
            assert step_taken(storage) == 10
            return
        steps = [record.step for record in records]
        assert steps == sorted(steps)
        assert step_taken(storage) == (20 if steps[-1] <= 20 else 10)

    line = mutated_json(json.loads(LINE)).map(lambda body: json.dumps(body).encode())
    random = ANY_JSON.map(lambda body: json.dumps(body).encode())
    contents = line | random | damaged(LINE.encode()) | st.lists(line, max_size=3).map(b"\n".join)
    hammer(check, contents, examples=120, effort=effort)


@pytest.mark.parametrize(
    "content",
    [b"{}\n", b'{"kind": "train"}\n', b"[]\n", b"\xff\n", b"[" * 5000, b"null\n", LINE.replace("20", "9").encode()],
    ids=["nothing", "half", "a list", "no text", "too deep", "null", "backwards"],
)
def test_sealed_nonsense_in_a_segment_is_a_damaged_record(content: bytes, storage: Storage) -> None:
    first = find_commits(storage, TRIAL)[0].segments
    commit(storage, 20, CONTENT, [*first, segment_of(storage, content)])
    assert step_taken(storage) == 10


@pytest.mark.parametrize("word", ["../../x", "a/b", "..", "\x00", "x" * 300, "/etc/passwd", ""])
@pytest.mark.parametrize("field", ["attempt", "file"])
def test_a_history_cannot_lead_out_of_its_folder(field: str, word: str, storage: Storage) -> None:
    commit(storage, 20, CONTENT, list(find_commits(storage, TRIAL)[0].segments))
    path = attempt_path(TRIAL, ATTEMPT, checkpoint_name(20), "commit.json")
    change_sealed(storage, path, lambda body: body["segments"][0].update({field: word}))
    assert [found.step for found in find_commits(storage, TRIAL)] == [10]
    assert step_taken(storage) == 10


def test_a_history_that_goes_beyond_its_checkpoint_falls_back(storage: Storage) -> None:
    first = find_commits(storage, TRIAL)[0].segments
    commit(storage, 15, CONTENT, [*first, segment_of(storage, LINE.encode())])
    assert step_taken(storage) == 10


# --- a state that does not fit ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trial(small_data: Path) -> Trial:
    """A trial with a teacher, one step old."""
    trial = small_trial(small_spec("classmix"), small_data)
    player = trial.players["student"]
    sum(parameter.sum() for parameter in player.network.parameters()).backward()
    player.step()
    return trial


def state_of(trial: Trial) -> dict[str, Any]:
    """What its checkpoint after four steps would hold."""
    window = {"sums": {"loss": torch.zeros((), dtype=torch.float64)}, "counts": {"loss": 1}, "first_step": 3}
    return copy.deepcopy({"trial": trial.state_dict(), "window": window})


def history(*steps: int) -> list[Any]:
    """Both networks, judged at steps of the small spec."""
    confusion = ((1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    record = judged(3, None).model_copy(
        update={
            "confusion": confusion,
            "class_iou": (1.0, None, None, None),
            "mean_iou": 1.0,
            "num_undefined": 3,
            "eval_size": (32, 64),
        }
    )
    return [record.model_copy(update={"step": step, "network": n}) for step in steps for n in ("student", "teacher")]


def test_its_own_state_fits(trial: Trial) -> None:
    refuse_unfit(trial, state_of(trial), history(3), step=4)


def leaves(state: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a state."""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return [place for key, value in items for place in ((*at, key), *leaves(value, (*at, key)))]


def reshaped(value: Tensor) -> list[Tensor]:
    """Tensors that are not of a tensor's shape, though some would be broadcast to it."""
    return [value.flatten()[:0], value.flatten()[:1], value.unsqueeze(0), value.new_zeros(()), value.new_zeros(7, 1, 3)]


@EFFORTS
def test_a_state_with_other_names_shapes_or_kinds_is_refused_with_the_cure(effort: int, trial: Trial) -> None:
    whole = state_of(trial)
    places = [place for place in leaves(whole) if place[-1] not in ("lr", "initial_lr")]

    def check(place: tuple[Any, ...], kind: str, number: int, shape: int) -> None:
        state = copy.deepcopy(whole)
        part: Any = state
        for key in place[:-1]:
            part = part[key]
        value = part[place[-1]]
        if kind == "gone":
            del part[place[-1]]
        elif kind == "shape" and isinstance(value, Tensor) and value.dim():
            part[place[-1]] = reshaped(value)[shape]
        elif kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
            part[place[-1]] = number if isinstance(value, int) else value + 1.0
        else:
            part[place[-1]] = ("words", None, [], {"a": 1}, 7.5, -3)[number % 6]
        _, refusal = tried(lambda: refuse_unfit(trial, state, history(3), step=4), UnfitCheckpoint)
        if refusal:
            assert "--restart" in refusal
            return
        before = copy.deepcopy(trial.state_dict())
        trial.load_state_dict(state["trial"])  # what is accepted can be loaded, and is what was asked for
        after = trial.state_dict()
        trial.load_state_dict(before)
        assert [tensor.shape for tensor in tensors_in(after)] == [tensor.shape for tensor in tensors_in(before)]
        assert after["optimizers"]["student"]["param_groups"][0]["momentum"] == 0.9

    kinds = st.sampled_from(["gone", "shape", "number", "other"])
    numbers = st.integers(-3, 9)
    hammer(check, st.sampled_from(places), kinds, numbers, st.integers(0, 4), examples=60, effort=effort)


def tensors_in(state: Any) -> list[Tensor]:
    """Every tensor of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


@pytest.mark.parametrize("state", [None, 3, [], {}, {"trial": 3}, {"trial": {}, "window": {}}, "state", torch.zeros(2)])
def test_a_state_that_is_none_is_refused(state: Any, trial: Trial) -> None:
    with pytest.raises(UnfitCheckpoint, match="--restart"):
        refuse_unfit(trial, state, history(3), step=4)


@pytest.mark.parametrize(
    ("step", "steps"), [(4, ()), (6, (3,)), (4, (2,)), (4, (3, 4)), (7, (3, 6)), (2, (3,))],
)  # fmt: skip
def test_a_state_with_other_evaluations_behind_it_is_refused(step: int, steps: tuple[int, ...], trial: Trial) -> None:
    with pytest.raises(UnfitCheckpoint, match="evaluation|updates are more"):
        refuse_unfit(trial, state_of(trial), history(*steps), step=step)


@pytest.mark.parametrize("reshape", [lambda t: t.flatten()[:1], lambda t: t.new_zeros(()), lambda t: t.unsqueeze(0)])
def test_a_momentum_that_would_be_broadcast_is_refused(reshape: Callable[[Tensor], Tensor], trial: Trial) -> None:
    state = state_of(trial)
    momentum = state["trial"]["optimizers"]["student"]["state"][0]
    momentum["momentum_buffer"] = reshape(momentum["momentum_buffer"])
    with pytest.raises(UnfitCheckpoint, match=r"optimizer state 0\.momentum_buffer"):
        refuse_unfit(trial, state, history(3), step=4)


@pytest.mark.parametrize("lost", ["one", "all", "its buffer"])
def test_a_momentum_that_would_start_from_nothing_is_refused(lost: str, trial: Trial) -> None:
    state = state_of(trial)
    entries = state["trial"]["optimizers"]["student"]["state"]
    if lost == "its buffer":
        entries[0]["momentum_buffer"] = None
    for index in list(entries)[: {"one": 1, "all": None}.get(lost, 0)]:
        del entries[index]
    with pytest.raises(UnfitCheckpoint, match="other parameters|lacks its momentum"):
        refuse_unfit(trial, state, history(3), step=4)


def test_another_momentum_than_the_specs_is_refused(trial: Trial) -> None:
    state = state_of(trial)
    state["trial"]["optimizers"]["student"]["param_groups"][0]["momentum"] = 0.5
    with pytest.raises(UnfitCheckpoint, match="groups are other ones"):
        refuse_unfit(trial, state, history(3), step=4)


def test_a_trial_with_an_unfit_state_is_refused_and_trains_after_a_restart(small_data: Path, tmp_path: Path) -> None:
    spec, options = small_spec("supervised"), small_options(small_data, tmp_path)
    storage = Storage(options.storage)
    run_trial(spec, options, StopAt(4))
    newest = find_commits(storage, spec.trial_id)[0]
    folder = attempt_path(spec.trial_id, newest.attempt, checkpoint_name(newest.step))
    content = to_bytes({"trial": {"networks": {}, "optimizers": {}, "teacher": None, "round": {}}, "window": {}})
    storage.write(f"{folder}/state.pt", content)
    change_sealed(
        storage, f"{folder}/commit.json", lambda body: body["files"].update({"state.pt": sealed_file(content)})
    )
    outcome = run_trial(spec, options, NoHost())
    assert outcome.kind == "refused"
    assert "networks.student is missing" in outcome.message
    assert "--restart" in outcome.message
    assert trial_state(storage, spec.trial_id).kind == "partial"
    assert read_result(storage, spec.trial_id) is None
    storage.remove(trial_path(spec.trial_id))  # as --restart does
    assert run_trial(spec, options, NoHost()).kind == "done"


def sealed_file(content: bytes) -> dict[str, Any]:
    """The seal of a file as a commit holds it."""
    return seal_of(content).model_dump(mode="json")


# --- kept weights -------------------------------------------------------------------------------------------------


def test_kept_weights_that_are_not_those_of_the_result_are_not_shown(trained: str, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    storage, table = Storage(str(tmp_path / "runs")), small_table()
    assert trained_network(table, storage) is not None
    for path in Path(storage.locate("trials")).glob("*/weights.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    assert trained_network(table, storage) is None
