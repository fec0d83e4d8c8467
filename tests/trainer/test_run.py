"""One rank's whole trial: what it leaves when all goes well, and what it says and writes when it does not."""

import shutil
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

import trainer.code
from tests.contracts import SMALL, Killed, KilledAt, StopAt, same_tensors, small_options, small_spec
from tests.worlds import run_ranks
from trainer import attempt as attempt_room
from trainer.attempt import Attempt, ran_out_of_memory
from trainer.checkpoint import from_bytes
from trainer.data.folders import DataError
from trainer.host import Host, NoHost
from trainer.journal import NonFiniteLoss
from trainer.machine import choose_device
from trainer.reading import (
    TrialState,
    find_commits,
    read_endings,
    read_failure,
    read_progress,
    read_result,
    trial_state,
)
from trainer.records import (
    Manifest,
    attempt_path,
    trial_path,
)
from trainer.run import Outcome, failure_reason, run_trial
from trainer.spec import SGD, Compile, DeepLabV2, Evaluation, RunOptions, TinyNetwork, TrialSpec
from trainer.storage import Storage
from trainer.trial import Trial
from trainer.watchdog import Watchdog

SPEC = small_spec("supervised")
EXPLODING = small_spec("supervised", optimizer=SGD(learning_rate=1e300))


@pytest.fixture
def options(small_data: Path, tmp_path: Path) -> RunOptions:
    """A storage of its own, a record and a checkpoint at every step."""
    return small_options(small_data, tmp_path / "runs")


@pytest.fixture
def storage(options: RunOptions) -> Storage:
    return Storage(options.storage)


def run(options: RunOptions, spec: TrialSpec = SPEC, host: Host | None = None) -> Outcome:
    return run_trial(spec, options, host or NoHost())


def attempts(storage: Storage, spec: TrialSpec = SPEC) -> list[str]:
    return storage.names(trial_path(spec.trial_id, "attempts"))


def read_manifest(storage: Storage, attempt: str) -> Manifest:
    return Manifest.find(storage, attempt_path(SPEC.trial_id, attempt, "manifest.json"))


# --- what a trial leaves ------------------------------------------------------------------------------------------


def test_a_done_trial_leaves_a_result_weights_and_no_checkpoint(options: RunOptions, storage: Storage) -> None:
    assert run(options) == Outcome("done")
    result = read_result(storage, SPEC.trial_id)
    assert (result.num_steps, result.class_names) == (6, SPEC.dataset.class_names)
    assert [(record.step, record.network) for record in result.evaluations] == [(3, "student"), (6, "student")]
    assert find_commits(storage, SPEC.trial_id) == []
    assert storage.names(trial_path(SPEC.trial_id)) == ["attempts", "result.json", "spec.json", "weights.pt"]


@pytest.mark.parametrize(("keep", "weights", "steps"), [("nothing", False, []), ("checkpoints", True, [6, 5])])
def test_what_is_kept_is_what_was_asked_for(
    keep: str, weights: bool, steps: list[int], options: RunOptions, storage: Storage
) -> None:
    run(options.model_copy(update={"keep": keep}))
    assert storage.exists(trial_path(SPEC.trial_id, "weights.pt")) == weights
    assert (read_result(storage, SPEC.trial_id).weights_sha256 is not None) == weights
    assert [commit.step for commit in find_commits(storage, SPEC.trial_id)] == steps


@pytest.mark.parametrize("protocol", ["full_whole", "full_sliding"])
def test_a_trial_judged_at_full_size_says_so_and_its_result_holds(
    protocol: str, options: RunOptions, storage: Storage
) -> None:
    dataset = SMALL.model_copy(update={"height": 16, "width": 32})
    spec = small_spec("supervised", dataset=dataset, evaluation=Evaluation(every=3, protocol=protocol))
    assert run_trial(spec, options, StopAt(4)).kind == "stopped"
    assert run_trial(spec, options, NoHost()).kind == "done"
    result = read_result(storage, spec.trial_id)
    assert result is not None
    assert [record.eval_size for record in result.evaluations] == [(32, 64), (32, 64)]


def test_the_spec_in_storage_is_the_trial(options: RunOptions, storage: Storage) -> None:
    run(options)
    assert TrialSpec.model_validate_json(storage.read(trial_path(SPEC.trial_id, "spec.json"))) == SPEC


def test_the_manifest_says_what_it_ran_on(options: RunOptions, storage: Storage) -> None:
    run(options)
    (attempt,) = attempts(storage)
    manifest = Manifest.find(storage, attempt_path(SPEC.trial_id, attempt, "manifest.json"))
    assert (manifest.world_size, manifest.threads, manifest.resumed_from_step) == (1, 1, 0)
    assert (manifest.num_labeled, manifest.num_unlabeled) == (8, 8)
    assert manifest.versions["torch"] == torch.__version__


def test_while_running_two_checkpoints_are_kept(options: RunOptions, storage: Storage) -> None:
    with pytest.raises(Killed):
        run(options, host=KilledAt(6))
    assert [commit.step for commit in find_commits(storage, SPEC.trial_id)] == [5, 4]


def test_a_supervised_trial_keeps_no_teacher(options: RunOptions, storage: Storage) -> None:
    run(options)
    weights = from_bytes(storage.read(trial_path(SPEC.trial_id, "weights.pt")))
    assert weights["teacher"] is None
    assert weights["student"]


# --- stopping and going on ----------------------------------------------------------------------------------------


def test_a_stop_leaves_a_checkpoint_at_its_step(options: RunOptions, storage: Storage) -> None:
    rarely = options.model_copy(update={"checkpoint_every": 100})
    assert run(rarely, host=StopAt(4)) == Outcome("stopped", "stopped after step 4")
    state = trial_state(storage, SPEC.trial_id)
    assert (state.kind, state.step) == ("partial", 4)


def test_a_second_run_goes_on_from_the_stop(options: RunOptions, storage: Storage) -> None:
    run(options, host=StopAt(4))
    (first,) = attempts(storage)
    host = StopAt(100)
    assert run(options, host=host) == Outcome("done")
    assert [told["step"] for told in host.told] == [5, 6]
    (second,) = set(attempts(storage)) - {first}
    manifest = Manifest.find(storage, attempt_path(SPEC.trial_id, second, "manifest.json"))
    assert (manifest.resumed_from_step, manifest.resumed_from_attempt) == (4, first)


def test_the_time_of_earlier_attempts_counts(options: RunOptions, storage: Storage) -> None:
    run(options, host=StopAt(3))
    before = find_commits(storage, SPEC.trial_id)[0].wall_seconds
    run(options)
    assert read_result(storage, SPEC.trial_id).wall_seconds > before > 0


# --- what another try would not mend ------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_written_down_with_its_steps(options: RunOptions, storage: Storage) -> None:
    outcome = run(options, EXPLODING)
    failure = read_failure(storage, EXPLODING.trial_id)
    assert outcome.kind == "failed"
    assert (failure.reason, failure.step) == ("non_finite_loss", 1)
    assert "supervised_loss is not finite between steps 1 and 2" in failure.message
    assert "NonFiniteLoss" in failure.trace_tail


def test_no_checkpoint_holds_a_loss_that_is_not_finite(options: RunOptions, storage: Storage) -> None:
    run(options.model_copy(update={"checkpoint_every": 2, "log_every": 100}), EXPLODING)
    assert find_commits(storage, EXPLODING.trial_id) == []
    assert trial_state(storage, EXPLODING.trial_id).kind == "failed"


def test_a_failed_trial_that_is_mended_has_no_failure_left(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("trainer.attempt.train", raise_(TypeError("a slip in the code")))
        assert run(options) == Outcome("failed", "error: a slip in the code")
    assert trial_state(storage, SPEC.trial_id).kind == "failed"
    assert run(options) == Outcome("done")
    assert read_failure(storage, SPEC.trial_id) is None


def raise_(error: BaseException) -> Callable[..., None]:
    """A function that only raises."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_the_trace_of_a_failure_ends_with_its_cause(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.attempt.train", raise_(ValueError("x" * 9000)))
    run(options)
    failure = read_failure(storage, SPEC.trial_id)
    assert (len(failure.message), len(failure.trace_tail)) == (2000, 4000)


def test_the_log_of_a_failed_attempt_says_why(options: RunOptions, storage: Storage) -> None:
    run(options, EXPLODING)
    (attempt,) = attempts(storage, EXPLODING)
    log = storage.read(attempt_path(EXPLODING.trial_id, attempt, "log.txt")).decode()
    assert "ERROR mixgrid non_finite_loss: supervised_loss is not finite" in log


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labeled_batch": 9}, "8 labeled images are fewer than the batch of 9: use another label_fraction"),
        ({"label_fraction": Fraction(1)}, "0 unlabeled images are fewer than the batch of 4"),
        ({"labeled_names": tuple("abcdefgh")}, "8 of the 8 labelled names are not among the 16 images"),
        ({"labeled_names": ("00",)}, "the list of labelled names has 1 names, but 1/2 of 16 images is 8"),
        ({"initial_weights": "imagenet"}, "tiny"),
    ],
)
def test_a_spec_that_does_not_fit_the_data_says_what_to_change(
    fields: dict, message: str, options: RunOptions, storage: Storage
) -> None:
    spec = small_spec("classmix", **fields)
    outcome = run(options, spec)
    assert outcome.kind == "failed"
    assert message in outcome.message
    assert read_failure(storage, spec.trial_id).reason == "bad_spec_or_data"


def test_missing_data_are_named(options: RunOptions, tmp_path: Path) -> None:
    outcome = run(options.model_copy(update={"data": str(tmp_path / "nowhere")}))
    assert outcome.kind == "failed"
    assert "does not exist" in outcome.message
    assert "--data" in outcome.message


# --- what this machine or command cannot give ---------------------------------------------------------------------


def test_a_number_of_ranks_that_does_not_divide_a_batch_is_refused(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.distributed.world_size", lambda: 3)
    for ask in ("trainer.run.agreed", "trainer.attempt.agreed", "trainer.attempt.on_all_ranks"):
        monkeypatch.setattr(ask, lambda find: find())  # there are no other ranks to agree with
    outcome = run(options)
    assert outcome.kind == "refused"
    assert "a global batch of 4 cannot be shared by 3 ranks: use a number of workers that divides" in outcome.message
    assert trial_state(storage, SPEC.trial_id).kind == "missing"


def test_a_device_that_is_not_here_is_refused(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = run(options.model_copy(update={"device": "cuda"}))
    assert outcome.kind == "refused"
    assert "torch finds no CUDA device here: use --device cpu or auto" in outcome.message
    assert trial_state(storage, SPEC.trial_id).kind == "missing"


def test_weights_that_are_not_here_are_refused(options: RunOptions, storage: Storage) -> None:
    spec = small_spec("supervised", network=DeepLabV2(backbone="resnet50"), initial_weights="imagenet")
    outcome = run(options, spec)
    assert outcome.kind == "refused"
    assert "the imagenet weights of resnet50 are expected in one file" in outcome.message
    assert trial_state(storage, spec.trial_id).kind == "missing"


# --- what an attempt says of its end ------------------------------------------------------------------------------


def test_a_stopped_trial_says_that_it_was_asked_to(options: RunOptions, storage: Storage) -> None:
    run(options, host=StopAt(3))
    assert trial_state(storage, SPEC.trial_id) == TrialState("partial", 3, "asked to stop")


def test_a_killed_trial_is_told_by_its_silence(options: RunOptions, storage: Storage) -> None:
    with pytest.raises(Killed):
        run(options.model_copy(update={"progress_seconds": 0.0}), host=KilledAt(4))
    (attempt,) = attempts(storage)
    detail = f"attempt {attempt} ended near step 3 without a word: killed, or its machine was lost"
    assert trial_state(storage, SPEC.trial_id) == TrialState("partial", 3, detail)


def test_an_error_is_told_with_its_rank(options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.keeper.write_state", raise_(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        run(options)
    assert trial_state(storage, SPEC.trial_id).detail == "broke off (rank 0): OSError: no space left"
    (ending,) = read_endings(storage, SPEC.trial_id, attempts(storage)[0])
    assert (ending.kind, ending.step) == ("raised", 1)
    assert ending.trace_tail.endswith("OSError: no space left\n")


def test_progress_is_told_now_and_then(options: RunOptions, storage: Storage) -> None:
    run(options.model_copy(update={"progress_seconds": 1000.0}))
    assert read_progress(storage, SPEC.trial_id, attempts(storage)[0]).step == 1
    assert read_progress(storage, SPEC.trial_id, attempts(storage)[0]).num_steps == 6


def test_a_hung_trial_says_so_and_is_ended(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr("trainer.attempt.Watchdog", partial(Watchdog, end=ended.set))
    monkeypatch.setattr("trainer.keeper.seal_checkpoint", lambda *_: ended.wait(20.0))
    run(options.model_copy(update={"hang_seconds": 3.0}))
    (ending,) = read_endings(storage, SPEC.trial_id, attempts(storage)[0])
    assert (ending.kind, ending.message[:18]) == ("hung", "no step for 3 s; s")
    assert "ended.wait(20.0)" in ending.trace_tail
    log = storage.read(attempt_path(SPEC.trial_id, attempts(storage)[0], "log.txt")).decode()
    assert "ended.wait(20.0)" in log


# --- memory -------------------------------------------------------------------------------------------------------


def out_of_memory_unless_saving(monkeypatch: pytest.MonkeyPatch, error: Exception, *, also_saving: bool) -> None:
    """Let the third step fail for want of memory: with all activations kept, or in any case."""
    real = attempt_room.prepare_networks

    def prepare(trial: Trial, compile_mode: Compile, *, saves_memory: bool) -> None:
        real(trial, compile_mode, saves_memory=saves_memory)
        if also_saving or not saves_memory:
            step = trial.players["student"].step
            monkeypatch.setattr(trial.players["student"], "step", fails_at(3, step, error))

    monkeypatch.setattr(attempt_room, "prepare_networks", prepare)


def fails_at(count: int, call: Callable[[], None], error: Exception) -> Callable[[], None]:
    calls = iter(range(1, 100))

    def counted() -> None:
        if next(calls) == count:
            raise error
        call()

    return counted


SHORT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError("no memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.mark.parametrize("error", SHORT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_trial_out_of_memory_goes_on_with_activation_checkpointing(
    error: Exception, options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_unless_saving(monkeypatch, error, also_saving=False)
    assert run(options) == Outcome("done")
    manifests = [read_manifest(storage, attempt) for attempt in attempts(storage)]
    assert [manifest.activation_checkpointing for manifest in manifests] == [False, True]
    assert [manifest.resumed_from_step for manifest in manifests] == [0, 2]
    assert read_failure(storage, SPEC.trial_id) is None


def test_memory_saved_changes_no_bit(options: RunOptions, small_data: Path, tmp_path: Path) -> None:
    saving = small_options(small_data, tmp_path / "saving", activation_checkpointing=True)
    spec = small_spec("classmix", network=TinyNetwork(width=4, batch_norm="batch_statistics"))
    assert [run(options, spec), run(saving, spec)] == [Outcome("done"), Outcome("done")]
    plain, saved = (Storage(o.storage).read(trial_path(spec.trial_id, "weights.pt")) for o in (options, saving))
    assert all(same_tensors(from_bytes(plain)[name], from_bytes(saved)[name]) for name in ("student", "teacher"))


def test_a_trial_out_of_memory_with_checkpointing_too_has_failed(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_unless_saving(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), also_saving=True)
    assert run(options).kind == "failed"
    failure = read_failure(storage, SPEC.trial_id)
    assert failure.reason == "out_of_memory"
    assert "use more --workers" in failure.message
    assert len(attempts(storage)) == 2


def test_lack_of_memory_on_another_device_does_not_count(storage: Storage, options: RunOptions) -> None:
    run(options, host=StopAt(2))
    attempt = attempts(storage)[0]
    Attempt(SPEC, options, storage, attempt).end("out_of_memory", torch.OutOfMemoryError("memory"))
    assert ran_out_of_memory(storage, SPEC.trial_id, read_manifest(storage, attempt).device)
    assert not ran_out_of_memory(storage, SPEC.trial_id, "a larger one")


# --- ranks that differ --------------------------------------------------------------------------------------------


def train_with_other_code_on_rank_1(options: RunOptions) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if dist.get_rank() == 1:
            patch.setattr("trainer.digests.code_digest", lambda: "f" * 64)
        outcome = run_trial(SPEC, options, NoHost())
    assert outcome.kind == "refused"
    assert "the ranks of this trial do not have the same code" in outcome.message


def test_ranks_with_other_code_are_refused_on_every_rank(options: RunOptions, storage: Storage) -> None:
    run_ranks(train_with_other_code_on_rank_1, 2, options)
    (attempt,) = attempts(storage)
    endings = read_endings(storage, SPEC.trial_id, attempt)
    assert sorted((ending.rank, ending.kind) for ending in endings) == [(0, "refused"), (1, "refused")]


def read_nothing_on_rank_0(options: RunOptions) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if dist.get_rank() == 0:
            patch.setattr("trainer.attempt.newest_checkpoint", raise_(OSError("storage away")))
        with pytest.raises(OSError, match="storage away"):
            run_trial(SPEC, options, NoHost())


def test_an_error_of_rank_0_is_raised_on_every_rank_and_nobody_waits(options: RunOptions) -> None:
    run_ranks(read_nothing_on_rank_0, 2, options)


# --- what another try may mend ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "alone", "among_others"),
    [
        (NonFiniteLoss("loss"), "non_finite_loss", "non_finite_loss"),
        (torch.OutOfMemoryError("memory"), "out_of_memory", "out_of_memory"),
        (DataError("data"), "bad_spec_or_data", "bad_spec_or_data"),
        (ValueError("spec"), "bad_spec_or_data", "bad_spec_or_data"),
        (OSError("disk full"), None, None),
        (ConnectionError("storage away"), None, None),
        (torch.AcceleratorError("device"), None, None),
        (RuntimeError("shapes"), "error", None),
        (TypeError("code"), "error", "error"),
    ],
)
def test_only_what_lasts_is_a_failure(
    error: Exception, alone: str | None, among_others: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failure_reason(error) == alone
    monkeypatch.setattr("trainer.run.world_size", lambda: 2)
    assert failure_reason(error) == among_others


def test_a_full_storage_is_raised_and_not_written_down(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("trainer.keeper.write_state", raise_(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            run(options)
    assert trial_state(storage, SPEC.trial_id).kind == "missing"
    assert run(options) == Outcome("done")


def test_a_storage_that_cannot_be_written_names_its_path(options: RunOptions, storage: Storage) -> None:
    storage.write("trials", b"a file where a folder is wanted")
    with pytest.raises(OSError, match=r"/runs/trials/"):
        run(options)


def test_an_unsealed_checkpoint_does_not_count(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("trainer.keeper.seal_checkpoint", raise_(Killed()))
        with pytest.raises(Killed):
            run(options)
    assert trial_state(storage, SPEC.trial_id).kind == "missing"
    assert run(options) == Outcome("done")


# --- what changed since a checkpoint ------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["code", "data", "split", "weights", "precision"])
def test_a_half_done_trial_whose_digests_changed_is_refused_with_the_cure(
    field: str, options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(options, host=StopAt(3))
    pretend_change(monkeypatch, field)
    outcome = run(options)
    assert outcome.kind == "refused"
    assert f"trained up to step 3, but since then these have changed: {field} (" in outcome.message
    assert "--restart" in outcome.message
    assert "--accept-change" in outcome.message
    assert read_failure(storage, SPEC.trial_id) is None


def pretend_change(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """Let the digests of the next attempt differ in one field."""
    import trainer.attempt

    true_digests = trainer.attempt.digests_of
    monkeypatch.setattr("trainer.attempt.digests_of", lambda *a: true_digests(*a).model_copy(update={field: "another"}))


def test_a_change_that_is_accepted_goes_on(
    options: RunOptions, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(options, host=StopAt(3))
    pretend_change(monkeypatch, "code")
    host = StopAt(100)
    assert run(options.model_copy(update={"accept_change": True}), host=host) == Outcome("done")
    assert [told["step"] for told in host.told] == [4, 5, 6]
    assert read_result(storage, SPEC.trial_id).digests.code == "another"


def test_one_changed_pixel_is_a_change_of_the_data(options: RunOptions, small_data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(small_data / "data", own / "data")
    options = small_options(own, tmp_path / "runs")
    run(options, host=StopAt(3))
    path = own / "data" / "images" / "train" / "00.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert "these have changed: data (" in run(options).message


def test_another_code_is_refused_and_its_file_named(
    options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "trainer"
    shutil.copytree(Path(trainer.code.__file__).parent, room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(trainer.code, "__file__", str(room / "code.py"))
    run(options, host=StopAt(3))
    losses = room / "losses.py"
    text = losses.read_text()
    losses.write_text(text.replace("IGNORE_INDEX = 255", "IGNORE_INDEX = 254"))
    message = run(options).message
    assert "these have changed: code (" in message
    assert "; of the code: losses.py. Go back" in message
    losses.write_text(f"# reworded\n{text}")
    assert run(options) == Outcome("done")


def test_a_done_trial_asks_no_questions_about_changes(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    run(options)
    pretend_change(monkeypatch, "code")
    assert run(options) == Outcome("done")


# --- devices and folders ------------------------------------------------------------------------------------------


def test_without_cuda_auto_means_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device(RunOptions()) == torch.device("cpu")


def test_the_cpu_is_taken_when_asked_for_also_where_cuda_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device(RunOptions(device="cpu")) == torch.device("cpu")


@pytest.mark.parametrize(("local_rank", "count", "index"), [("1", 2, 1), ("1", 1, 0)])
def test_each_rank_takes_its_own_device(
    local_rank: str, count: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: None)
    assert choose_device(RunOptions()) == torch.device("cuda", index)


def test_the_number_of_threads_is_ours(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", numbers.append)
    run(options.model_copy(update={"threads": 3}))
    assert numbers == [3]
