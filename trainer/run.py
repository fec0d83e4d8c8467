"""One rank's whole trial: the single door into training, for Ray, torchrun and Slurm alike."""

import hashlib
import logging
import os
import platform
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

from trainer.build import build_trial, open_data
from trainer.checkpoint import newest_checkpoint, prune, seal_checkpoint, seal_of, to_bytes, write_state
from trainer.data.cache import CachedSplit, cache_folder
from trainer.data.splits import Split
from trainer.distributed import rank, world_size
from trainer.errors import SetupError
from trainer.host import Host
from trainer.journal import Journal, NonFiniteLoss, ScalarWindow
from trainer.loop import Cadence, Keeper, Trial, train
from trainer.models.weights import WeightsReport
from trainer.preview import picture_row, png_of, scale_for
from trainer.records import (
    Commit,
    DamagedRecord,
    Digests,
    EvaluationRecord,
    Failure,
    Manifest,
    Result,
    Storage,
    attempt_path,
    code_digest,
    new_attempt_name,
    read_result,
    read_segments,
    trial_path,
    write_segment,
)
from trainer.spec import RunOptions, TrialSpec

_LOG = logging.getLogger("mixgrid")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial's attempt ended. `refused`: this machine, this command or changed code or data stand in the way."""

    kind: Literal["done", "stopped", "failed", "refused"]
    message: str = ""


class ChangedSinceCheckpoint(SetupError):  # noqa: N818
    """A half-done trial is not continued on other code, data, split, weights or precision."""


def run_trial(spec: TrialSpec, options: RunOptions, host: Host) -> Outcome:
    """Train a trial to its end, or as far as the host lets it; what is safe already is never trained again.

    Call on every rank of an initialised process group, or alone. What another try would not mend is written to
    failure.json and returned as "failed"; other errors are raised, for whoever started the rank to try again.
    """
    storage = Storage(options.storage)
    with suppress(DamagedRecord):
        if read_result(storage, spec.trial_id) is not None:
            return Outcome("done")
    attempt = Attempt(spec, options, storage, _agreed(new_attempt_name()))
    with attempt.logging():
        try:
            return attempt.run(host)
        except SetupError as error:
            return Outcome("refused", str(error))
        except Exception as error:
            reason = failure_reason(error)
            if reason is None:
                raise
            _LOG.error("%s: %s", reason, error)
            attempt.record_failure(reason, error)
            return Outcome("failed", f"{reason}: {error}")


def failure_reason(error: Exception) -> str | None:
    """The class of a failure that another try would not mend; None for one that it might (design section 6)."""
    if isinstance(error, NonFiniteLoss):
        return "non_finite_loss"
    if isinstance(error, torch.OutOfMemoryError):
        return "out_of_memory"
    if isinstance(error, OSError):
        return None
    if isinstance(error, ValueError):
        return "bad_spec_or_data"
    if isinstance(error, torch.AcceleratorError):
        return None  # a device that fell over may stand again
    if isinstance(error, RuntimeError) and world_size() > 1:
        return None  # most likely another rank died and this one only noticed
    return "error"


CURES = {"out_of_memory": "; use more --workers, a device with more memory, or a smaller batch or image"}


class Attempt:
    """One go at a trial, below its own directory."""

    def __init__(self, spec: TrialSpec, options: RunOptions, storage: Storage, name: str) -> None:
        self.spec = spec
        self.options = options
        self.storage = storage
        self.name = name
        self.step = 0
        self._log_lines: list[str] = []

    def run(self, host: Host) -> Outcome:
        """Build, resume, train, finish."""
        started = time.monotonic()
        device = choose_device(self.options)
        torch.set_num_threads(self.options.threads)
        train_images, eval_images, split = open_data(
            self.spec, Path(self.options.data), cache_folder(self.options.cache)
        )
        allow_tf32(self.spec.precision == "tf32")
        trial, weights = build_trial(
            self.spec, split, train_images, eval_images, weights=weights_folder(self.options), device=device
        )
        digests = digests_of(self.spec, train_images, eval_images, split, weights)
        keeper = self._resume(trial, digests, started)
        self._write_manifest(keeper, split, train_images.class_names, str(device))
        try:
            if not train(trial, keeper, host, self._cadence(), keeper.step):
                return Outcome("stopped", f"stopped after step {keeper.step}")
            self._finish(trial, keeper, train_images.class_names)
        finally:
            trial.streams.close()
        return Outcome("done")

    def _cadence(self) -> Cadence:
        steps = self.spec.num_steps
        return Cadence(
            log=self.options.log_interval(steps),
            checkpoint=self.options.checkpoint_interval(steps),
            evaluate=self.spec.evaluation.every,
        )

    def _resume(self, trial: Trial, digests: Digests, started: float) -> "StorageKeeper":
        found = newest_checkpoint(self.storage, self.spec.trial_id)
        if found is None:
            return StorageKeeper(self, trial, digests, started, None, Journal((), ()))
        commit, state = found
        if commit.digests != digests and not self.options.accept_change:
            raise ChangedSinceCheckpoint(explain_change(self.spec.trial_id, commit, digests))
        trial.load_state_dict(state["trial"])
        records = read_segments(self.storage, self.spec.trial_id, commit.segments)
        evaluations = [record for record in records if isinstance(record, EvaluationRecord)]
        keeper = StorageKeeper(self, trial, digests, started, commit, Journal(commit.segments, evaluations))
        keeper.window.load_state_dict(state["window"], trial.device)
        _LOG.info("resumed after step %d of attempt %s", commit.step, commit.attempt)
        return keeper

    def _write_manifest(self, keeper: "StorageKeeper", split: Split, class_names: tuple[str, ...], device: str) -> None:
        if rank() != 0:
            return
        spec_path = trial_path(self.spec.trial_id, "spec.json")
        if not self.storage.exists(spec_path):
            self.storage.write(spec_path, self.spec.model_dump_json(indent=1).encode())
        manifest = Manifest(
            trial_id=self.spec.trial_id,
            attempt=self.name,
            started=time.time(),
            resumed_from_step=keeper.step,
            resumed_from_attempt=keeper.parent.attempt if keeper.parent else None,
            digests=keeper.digests,
            versions=versions(),
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device_name(device),
            world_size=world_size(),
            threads=self.options.threads,
            options=self.options.model_dump(mode="json"),
            class_names=class_names,
            num_labeled=len(split.labeled),
            num_unlabeled=len(split.unlabeled),
            labeled_names=split.labeled,
        )
        self.storage.write(attempt_path(self.spec.trial_id, self.name, "manifest.json"), manifest.sealed())

    def _finish(self, trial: Trial, keeper: "StorageKeeper", class_names: tuple[str, ...]) -> None:
        """Write what is kept, then the result, last of all."""
        trial_id = self.spec.trial_id
        weights = to_bytes(weights_of(trial))  # before the pictures, which move a teacher's batch statistics
        step = self.spec.num_steps
        pictures = trial.method.pictures(trial.networks, trial.streams.at(step), step)
        if rank() != 0:
            return
        if pictures:
            row = picture_row(pictures)
            png = png_of([row], scale=scale_for(row[0][1].shape[1]))
            self.storage.write(trial_path(trial_id, "preview.png"), png)
        weights_digest = None
        if self.options.keep != "nothing":
            self.storage.write(trial_path(trial_id, "weights.pt"), weights)
            weights_digest = seal_of(weights).sha256_of_file
        result = Result(
            trial_id=trial_id,
            attempt=self.name,
            num_steps=self.spec.num_steps,
            finished=time.time(),
            wall_seconds=keeper.wall_seconds(),
            spec=self.spec.model_dump(mode="json"),
            class_names=class_names,
            digests=keeper.digests,
            evaluations=tuple(keeper.journal.evaluations),
            segments=tuple(keeper.journal.segments),
            weights_sha256=weights_digest,
        )
        self.storage.write(trial_path(trial_id, "result.json"), result.sealed())
        self.storage.remove(trial_path(trial_id, "failure.json"))
        if self.options.keep != "checkpoints":
            keeper.remove_checkpoints()

    def record_failure(self, reason: Any, error: Exception) -> None:
        """Write failure.json: the message and the tail of the trace."""
        trace = "".join(traceback.format_exception(error))[-4000:]
        failure = Failure(
            trial_id=self.spec.trial_id,
            attempt=self.name,
            reason=reason,
            message=f"{error}{CURES.get(reason, '')}"[:2000],
            trace_tail=trace,
            step=self.step,
            failed=time.time(),
        )
        self.storage.write(trial_path(self.spec.trial_id, "failure.json"), failure.sealed())

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Collect what is logged while the attempt runs; rank 0 writes it beside the attempt's records."""
        handler = _Lines(self._log_lines)
        _LOG.addHandler(handler)
        _LOG.setLevel(logging.INFO)
        try:
            yield
        finally:
            _LOG.removeHandler(handler)
            self.write_log()

    def write_log(self) -> None:
        """Write the log so far; a storage that is away does not hide the error that brought us here."""
        if rank() == 0 and self._log_lines:
            with suppress(OSError):
                content = "\n".join(self._log_lines) + "\n"
                self.storage.write(attempt_path(self.spec.trial_id, self.name, "log.txt"), content.encode())


class StorageKeeper(Keeper):
    """Commits to storage: segment, state, seal, in that order; only then do the records count."""

    def __init__(
        self,
        attempt: Attempt,
        trial: Trial,
        digests: Digests,
        started: float,
        parent: Commit | None,
        journal: Journal,
    ) -> None:
        super().__init__(journal, ScalarWindow())
        self.digests = digests
        self.parent = parent
        self.step = 0 if parent is None else parent.step
        self._attempt = attempt
        self._trial = trial
        self._started = started
        self._committed: list[int] = []

    def wall_seconds(self) -> float:
        """Seconds spent on this history so far, earlier attempts included."""
        return time.monotonic() - self._started + (self.parent.wall_seconds if self.parent else 0.0)

    def commit(self, step: int) -> None:
        """Write a checkpoint after `step` updates; rank 0 writes, since every rank holds the same state."""
        self.step = self._attempt.step = step
        if rank() != 0:
            return
        attempt, storage, trial_id = self._attempt, self._attempt.storage, self._attempt.spec.trial_id
        segment = write_segment(
            storage, trial_id=trial_id, attempt=attempt.name, step=step, records=self.journal.pending
        )
        self.journal.committed(segment)
        state = {"trial": self._trial.state_dict(), "window": self.window.state_dict()}
        files = write_state(storage, trial_id, attempt.name, step, state)
        commit = Commit(
            trial_id=trial_id,
            attempt=attempt.name,
            step=step,
            time=time.time(),
            digests=self.digests,
            world_size=world_size(),
            wall_seconds=self.wall_seconds(),
            files=files,
            segments=tuple(self.journal.segments),
        )
        seal_checkpoint(storage, commit)
        self._committed.append(step)
        prune(storage, trial_id, attempt.name, self._committed)
        attempt.write_log()

    def remove_checkpoints(self) -> None:
        """A finished trial needs none: its history is in the result."""
        storage, trial_id = self._attempt.storage, self._attempt.spec.trial_id
        for attempt in storage.names(trial_path(trial_id, "attempts")):
            for name in storage.names(attempt_path(trial_id, attempt)):
                if name.startswith("checkpoint-"):
                    storage.remove(attempt_path(trial_id, attempt, name))


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


def _agreed(word: str) -> str:
    """Rank 0's word, on every rank."""
    if world_size() == 1:
        return word
    box = [word]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def choose_device(options: RunOptions) -> torch.device:
    """The device of this rank. Raises: SetupError where a device is asked for that is not there."""
    if options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SetupError("device 'cuda' is asked for, but torch finds no CUDA device here: use --device cpu or auto")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    index = local_rank if torch.cuda.device_count() > local_rank else 0
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def allow_tf32(allowed: bool) -> None:
    """Say whether CUDA may round the factors of float32 products to TF32; torch's own default differs by operation."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def device_name(device: str) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"cpu ({platform.machine()})"


def weights_folder(options: RunOptions) -> Path:
    """Where initial weights are looked for: --weights, or `weights` below --data."""
    return Path(options.weights) if options.weights else Path(options.data) / "weights"


def digests_of(
    spec: TrialSpec, train_images: CachedSplit, eval_images: CachedSplit, split: Split, weights: WeightsReport
) -> Digests:
    """What a half-done trial must find unchanged to go on."""
    data = hashlib.sha256(f"{train_images.digest} {eval_images.digest}".encode()).hexdigest()
    return Digests(code=code_digest(), data=data, split=split.digest, weights=weights.sha256, precision=spec.precision)


def explain_change(trial_id: str, commit: Commit, digests: Digests) -> str:
    """Name what changed since a checkpoint, and the cure."""
    before, now = commit.digests.model_dump(), digests.model_dump()
    changed = ", ".join(
        f"{name} ({before[name][:12]} -> {now[name][:12]})" for name in now if before[name] != now[name]
    )
    return (
        f"{trial_id} is trained up to step {commit.step}, but since then these have changed: {changed}. Go back to "
        "what they were, start it anew with --restart, or go on all the same with --accept-change"
    )


def weights_of(trial: Trial) -> dict[str, Any]:
    """What `predict` and a later look at a trained network need."""
    teacher = None if trial.teacher is None else trial.teacher.network.state_dict()
    return {"student": trial.players["student"].network.state_dict(), "teacher": teacher}


def versions() -> dict[str, str]:
    """The libraries whose release may move a number."""
    import numpy
    import PIL

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "cuda": torch.version.cuda or "none",
    }
