"""One rank's whole trial: the single door into training, for Ray, torchrun and Slurm alike."""

import gc
import logging
from contextlib import suppress

import torch

from trainer.attempt import Attempt, Outcome, is_done
from trainer.distributed import agreed, world_size
from trainer.errors import SetupError
from trainer.host import Host
from trainer.journal import NonFiniteLoss
from trainer.machine import choose_device
from trainer.records import (
    DamagedRecord,
    FailureReason,
    new_attempt_name,
)
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage

_LOG = logging.getLogger("mixgrid")

__all__ = ["Outcome", "failure_reason", "is_done", "is_out_of_memory", "run_trial"]


def run_trial(spec: TrialSpec, options: RunOptions, host: Host) -> Outcome:
    """Train a trial to its end, or as far as the host lets it; what is safe already is never trained again.

    Call on every rank of an initialised process group, or alone. What another try would not mend is written to
    failure.json and returned as "failed"; other errors are raised, for whoever started the rank to try again.
    """
    storage = Storage(options.storage)
    with suppress(SetupError):  # refused in the attempt, which says so; ranks must have their device before they talk
        choose_device(options)
    while True:
        if agreed(lambda: is_done(storage, spec.trial_id)):
            return Outcome("done")
        attempt = Attempt(spec, options, storage, agreed(new_attempt_name))
        try:
            return _run_attempt(attempt, host)
        except torch.OutOfMemoryError:  # not the last word: the next attempt checkpoints its activations
            if world_size() > 1:
                raise  # the other ranks are in the middle of something: all start again
        _forget_device_memory()


def _run_attempt(attempt: "Attempt", host: Host) -> Outcome:
    with attempt.logging():
        try:
            outcome = attempt.run(host)
        except SetupError as error:
            attempt.end("refused", error)
            return Outcome("refused", str(error))
        except Exception as error:
            reason = failure_reason(error)
            if reason == "out_of_memory" and not attempt.saves_memory:
                attempt.end("out_of_memory", error)
                raise torch.OutOfMemoryError(str(error)) from None
            attempt.end("raised" if reason is None else "failed", error)
            if reason is None:
                raise
            _LOG.error("%s: %s", reason, error)
            attempt.record_failure(reason, error)
            return Outcome("failed", f"{reason}: {error}")
        if outcome.kind == "stopped":
            attempt.end("stopped")
        return outcome


def _forget_device_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def failure_reason(error: Exception) -> FailureReason | None:
    """The class of a failure that another try would not mend; None for one that it might (design section 6)."""
    if isinstance(error, NonFiniteLoss):
        return "non_finite_loss"
    if is_out_of_memory(error):
        return "out_of_memory"
    if isinstance(error, OSError | DamagedRecord):
        return None  # storage may answer, or hold, something else the next time
    if isinstance(error, ValueError):
        return "bad_spec_or_data"
    if isinstance(error, torch.AcceleratorError):
        return None  # a device that fell over may stand again
    if isinstance(error, RuntimeError) and world_size() > 1:
        return None  # most likely another rank died and this one only noticed
    return "error"


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was missing, on the device or on the host; not all libraries have a class for it."""
    words = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
