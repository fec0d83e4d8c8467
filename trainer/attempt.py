"""One go at a trial: build, resume, train, finish, and say how it ended, below a directory of its own."""

import logging
import os
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch

from trainer.build import build_trial, open_data
from trainer.checkpoint import newest_checkpoint, read_state, seal_of, to_bytes
from trainer.code import keep_code_files
from trainer.data.cache import cache_folder, weights_folder
from trainer.data.splits import Split
from trainer.digests import ChangedSinceCheckpoint, agree_on, digests_of, explain_change
from trainer.distributed import agreed, gather_objects, on_all_ranks, rank, world_size
from trainer.fast import prepare_networks, ways_of
from trainer.fitting import refuse_unfit
from trainer.host import Host
from trainer.journal import Journal
from trainer.keeper import StorageKeeper
from trainer.loop import Cadence, train
from trainer.machine import allow_tf32, choose_device, device_name, keep_freed_memory, make_deterministic, versions
from trainer.methods.base import phase_at
from trainer.network import name_and_address
from trainer.reading import (
    read_endings,
    read_result,
    read_segments,
)
from trainer.records import (
    Commit,
    DamagedRecord,
    Digests,
    Ending,
    EndingKind,
    EvaluationRecord,
    Failure,
    FailureReason,
    Manifest,
    Result,
    attempt_path,
    ending_name,
    trial_path,
)
from trainer.remote import without_keys
from trainer.rounds import labels_of_checkpoint
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage
from trainer.telling import Lines, TellingHost
from trainer.trial import Trial
from trainer.watchdog import Watchdog

_LOG = logging.getLogger("mixgrid")
_MESSAGE_LENGTH = 2000
_TRACE_LENGTH = 4000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial's attempt ended. `refused`: this machine, this command or changed code or data stand in the way."""

    kind: Literal["done", "stopped", "failed", "refused"]
    message: str = ""


def is_done(storage: Storage, trial_id: str) -> bool:
    """Whether there is a valid result. A damaged one is no result: the trial is finished again."""
    try:
        return read_result(storage, trial_id) is not None
    except DamagedRecord:
        return False


CURES = {"out_of_memory": "; use more --workers, a device with more memory, or a smaller batch or image"}


class Attempt:
    """One go at a trial, below its own directory."""

    def __init__(self, spec: TrialSpec, options: RunOptions, storage: Storage, name: str) -> None:
        self.spec = spec
        self.options = options
        self.storage = storage
        self.name = name
        self.step = 0
        self.saves_memory = options.activation_checkpointing
        self.device = ""
        self._log_lines: list[str] = []

    def run(self, host: Host) -> Outcome:
        """Build, resume, train, finish."""
        started = time.monotonic()
        device = choose_device(self.options)
        torch.set_num_threads(self.options.threads)
        keep_freed_memory()
        make_deterministic(self.options.deterministic)
        options = self.options
        train_images, eval_images, split = on_all_ranks(
            lambda: open_data(self.spec, options.data, cache_folder(options.cache))
        )
        allow_tf32(self.spec.precision == "tf32")
        self._look_at_memory(device)
        trial, weights = build_trial(
            self.spec,
            split,
            train_images,
            eval_images,
            weights=weights_folder(options.weights, data=options.data, cache=options.cache),
            device=device,
            ways=ways_of(options, self.spec, train_images, device, saves_memory=self.saves_memory),
        )
        digests = digests_of(self.spec, train_images, eval_images, split, weights)
        agree_on(digests)
        keeper = self._resume(trial, digests, started)
        if keeper is None:
            return Outcome("done")
        prepare_networks(trial, self.options.compile, saves_memory=self.saves_memory)
        self._write_manifest(keeper, split, train_images.class_names)
        try:
            with Watchdog(self.options.hang_seconds, self._say_hung) as watchdog:
                keeper.alive = watchdog.alive
                if not train(trial, keeper, self._telling(host), self._cadence(), keeper.step):
                    return Outcome("stopped", f"stopped after step {keeper.step}")
                self._finish(trial, keeper, train_images.class_names)
        finally:
            trial.streams.close()
        return Outcome("done")

    def _say_hung(self, stacks: str) -> None:
        message = f"no step for {self.options.hang_seconds:g} s; see `mixgrid logs`, or raise --hang-seconds"
        _LOG.error("hung: %s\n%s", message, stacks)
        self._write_ending("hung", message, stacks)
        self.write_log()

    def _telling(self, host: Host) -> TellingHost:
        every = self.options.progress_seconds
        return TellingHost(host, self.storage, trial_id=self.spec.trial_id, attempt=self.name, every_seconds=every)

    def _cadence(self) -> Cadence:
        steps = self.spec.num_steps
        return Cadence(
            log=self.options.log_interval(steps),
            checkpoint=self.options.checkpoint_interval(steps),
            evaluate=self.spec.evaluation.every,
        )

    def _resume(self, trial: Trial, digests: Digests, started: float) -> StorageKeeper | None:
        """A keeper that goes on from the newest valid checkpoint; None where another driver has ended the trial."""
        commit, state = self._newest_checkpoint()
        # Checkpoints go when a trial is done, which another driver may just have brought about: what is left is old.
        if agreed(lambda: is_done(self.storage, self.spec.trial_id)):
            return None
        if commit is None:
            return StorageKeeper(self, trial, digests, started, None, Journal((), ()))
        if commit.digests != digests and not self.options.accept_change:
            raise ChangedSinceCheckpoint(explain_change(self.storage, self.spec.trial_id, commit, digests))
        records = read_segments(self.storage, self.spec.trial_id, commit.segments)
        evaluations = [record for record in records if isinstance(record, EvaluationRecord)]
        refuse_unfit(trial, state, evaluations, step=commit.step)
        trial.load_state_dict(state["trial"])
        is_round_going_on = phase_at(trial.method.phases, commit.step).first_step != commit.step
        if trial.labels_digest is not None and is_round_going_on:
            trial.use_pool_labels(
                labels_of_checkpoint(self.storage, trial_id=self.spec.trial_id, sha256=trial.labels_digest)
            )
        keeper = StorageKeeper(self, trial, digests, started, commit, Journal(commit.segments, evaluations))
        keeper.window.load_state_dict(state["window"], trial.device)
        _LOG.info("resumed after step %d of attempt %s", commit.step, commit.attempt)
        return keeper

    def _newest_checkpoint(self) -> tuple[Commit | None, Any]:
        """The commit that rank 0 chose, on every rank, and its state."""
        state: Any = None

        def choose() -> Commit | None:
            nonlocal state
            commit, state = newest_checkpoint(self.storage, self.spec.trial_id) or (None, None)
            return commit

        commit = agreed(choose)
        if commit is not None and rank() != 0:
            state = read_state(self.storage, commit)
        return commit, state

    def _look_at_memory(self, device: torch.device) -> None:
        """Memory is saved where asked to, or where an attempt on such a device ran out of it."""
        self.device = device_name(str(device))
        self.saves_memory = self.saves_memory or agreed(
            lambda: ran_out_of_memory(self.storage, self.spec.trial_id, self.device)
        )

    def _write_manifest(self, keeper: StorageKeeper, split: Split, class_names: tuple[str, ...]) -> None:
        rank_hosts = tuple(gather_objects(name_and_address()))
        if rank() != 0:
            return
        spec_path = trial_path(self.spec.trial_id, "spec.json")
        if not self.storage.exists(spec_path):
            self.storage.write(spec_path, self.spec.model_dump_json(indent=1).encode())
        keep_code_files(self.storage)
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
            device=self.device,
            world_size=world_size(),
            rank_hosts=rank_hosts,
            threads=self.options.threads,
            activation_checkpointing=self.saves_memory,
            options={**self.options.model_dump(mode="json"), **self._shown_places()},
            class_names=class_names,
            num_labeled=len(split.labeled),
            num_unlabeled=len(split.unlabeled),
            labeled_names=split.labeled,
        )
        self.storage.write(attempt_path(self.spec.trial_id, self.name, "manifest.json"), manifest.sealed())

    def _shown_places(self) -> dict[str, str]:
        """Storage and data as a person may see them: their URLs may hold keys."""
        data = self.options.data
        return {"storage": self.storage.name, "data": without_keys(data) if "://" in data else data}

    def _finish(self, trial: Trial, keeper: StorageKeeper, class_names: tuple[str, ...]) -> None:
        """Write what is kept, then the result, last of all."""
        trial_id = self.spec.trial_id
        if rank() != 0:
            return
        weights_digest = None
        if self.options.keep != "nothing":
            weights = to_bytes(weights_of(trial))
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
        try:
            self.storage.remove(trial_path(trial_id, "failure.json"))
            if self.options.keep != "checkpoints":
                keeper.remove_checkpoints()
        except OSError as error:  # done is done
            _LOG.warning("not all that is over could be removed; `mixgrid prune` does it: %s", error)

    def end(self, kind: EndingKind, error: Exception | None = None) -> None:
        """Say how this rank's part ended; the reason outlives the process."""
        message = "" if error is None else f"{type(error).__name__}: {error}"
        self._write_ending(kind, message, "" if error is None else trace_tail(error))

    def _write_ending(self, kind: EndingKind, message: str, trace: str) -> None:
        ending = Ending(
            trial_id=self.spec.trial_id,
            attempt=self.name,
            rank=rank(),
            kind=kind,
            message=message[:_MESSAGE_LENGTH],
            trace_tail=trace[-_TRACE_LENGTH:],
            step=self.step,
            time=time.time(),
        )
        try:
            self.storage.write(attempt_path(self.spec.trial_id, self.name, ending_name(rank())), ending.sealed())
        except OSError:  # does not hide the error that brought us here; nor do we wait for the storage once more
            self._log_lines.clear()

    def record_failure(self, reason: FailureReason, error: Exception) -> None:
        """Write failure.json: the message and the tail of the trace."""
        failure = Failure(
            trial_id=self.spec.trial_id,
            attempt=self.name,
            reason=reason,
            message=f"{error}{CURES.get(reason, '')}"[:_MESSAGE_LENGTH],
            trace_tail=trace_tail(error),
            step=self.step,
            failed=time.time(),
        )
        self.storage.write(trial_path(self.spec.trial_id, "failure.json"), failure.sealed())

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Collect what is logged while the attempt runs; rank 0 writes it beside the attempt's records."""
        handler = Lines(self._log_lines)
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


def trace_tail(error: Exception) -> str:
    """The end of an error's trace."""
    return "".join(traceback.format_exception(error))[-_TRACE_LENGTH:]


def ran_out_of_memory(storage: Storage, trial_id: str, device: str) -> bool:
    """Whether an attempt at equal device and number of ranks ran out of memory with its activations kept."""
    for attempt in storage.names(trial_path(trial_id, "attempts")):
        if any(ending.kind == "out_of_memory" for ending in read_endings(storage, trial_id, attempt)):
            with suppress(DamagedRecord):
                manifest = Manifest.find(storage, attempt_path(trial_id, attempt, "manifest.json"))
                if manifest is None or (manifest.device, manifest.world_size) == (device, world_size()):
                    return True
    return False


def weights_of(trial: Trial) -> dict[str, Any]:
    """What `predict` and a later look at a trained network need."""
    teacher = None if trial.teacher is None else trial.teacher.network.state_dict()
    return {"student": trial.players["student"].network.state_dict(), "teacher": teacher}
