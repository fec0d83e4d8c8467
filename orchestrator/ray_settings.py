"""What is asked of Ray, Tune and Train by their environment variables, and why. Knows no Ray."""

import os

SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours (stopping.py)
    "RAY_AIR_NEW_OUTPUT": "0",
    # Tune's own state and records are never read again: neither written with every trial, nor anew every ten seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # So long a process may take to be done with a trial before it drives the next, which would else count as failed.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "120",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # else Tune starts one trial after another
    # A controller looks at its workers so often: for their reports, and twice after the last.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # A rank that does not answer for so long is given up, and its trial goes on from its newest checkpoint. A network
    # that was cut leaves calls that nobody answers; Ray Train waits 600 s for them. Not below the 63 s for which a rank
    # may be silent while its storage is (trainer/remote.py).
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",
    # Nobody asks the watcher: a node that goes is noticed by the death of its worker, and storage says where to go on.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # The helper processes of a trial are many and small: Ray otherwise starts one per CPU at a time, and warns.
    "RAY_worker_maximum_startup_concurrency": "8",
}


def apply_ray_settings() -> None:
    """Set what the user has not set, in the driver and in each trial's process, which may be on another machine."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
