"""The Tune driver: missing cells to a fresh Tuner to an outcome. Knows Ray; asks nothing of Tune's own state."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import ray
from ray import tune
from ray.tune import Callback

from experiments.table import Cell
from orchestrator.lease import HEARTBEAT_SECONDS, Lease, stop_path
from orchestrator.resources import DRIVER_CPUS, Placement, trials_at_once
from orchestrator.trainable import Order, train_cell
from trainer.records import Storage
from trainer.spec import RunOptions

# Tune retries a trial whose driver process died; what counts as too often is decided from storage (trainable.py).
_TUNE_RETRIES = 10
# How long running trials get to checkpoint after the first Ctrl-C or SIGTERM.
GRACE_SECONDS = 60.0

Phase = Literal["waiting", "starting", "training", "done", "failed", "stopped"]


@dataclass(slots=True)
class TrialProgress:
    """What the driver knows of one trial while it runs; for the eye only."""

    name: str
    phase: Phase = "waiting"
    step: int = 0
    num_steps: int = 0
    steps_per_second: float = 0.0
    message: str = ""


@dataclass(slots=True)
class GridProgress:
    """All trials of this run by trial id, and when it began."""

    trials: dict[str, TrialProgress]
    at_once: int = 1
    started: float = field(default_factory=time.monotonic)

    def count(self, *phases: Phase) -> int:
        """How many trials are in one of the phases."""
        return sum(progress.phase in phases for progress in self.trials.values())

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended."""
        return self.count("waiting", "starting", "training") == 0

    def eta_seconds(self) -> float | None:
        """Seconds left, from the time that finished work took; None before there is any."""
        total = sum(max(progress.num_steps, 1) for progress in self.trials.values())
        made = sum(max(p.num_steps, 1) if p.phase in ("done", "failed") else p.step for p in self.trials.values())
        if made == 0:
            return None
        return (time.monotonic() - self.started) * (total - made) / made


class _Watcher(Callback):  # type: ignore[misc]  # Ray is untyped here
    """Turns Tune's events into progress."""

    def __init__(self, progress: GridProgress) -> None:
        self._progress = progress

    def _of(self, trial: Any) -> TrialProgress:
        return self._progress.trials[trial.config["order"]["trial_id"]]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_info: Any) -> None:
        self._of(trial).phase = "starting"

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **_info: Any
    ) -> None:
        progress = self._of(trial)
        if "outcome" in result:
            progress.phase = {"done": "done", "stopped": "stopped"}.get(result["outcome"], "failed")  # type: ignore[assignment]
            progress.message = str(result.get("message", ""))
        elif "step" in result:
            progress.phase = "training"
            progress.step = int(result["step"])
            progress.steps_per_second = float(result["steps_per_second"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_info: Any) -> None:
        progress = self._of(trial)
        progress.phase = "failed"
        progress.message = "its process died too often"


@dataclass(frozen=True, slots=True)
class GridOutcome:
    """What a run did: messages of trials that did not end well, and whether it was interrupted."""

    problems: dict[str, str]
    was_interrupted: bool


def run_cells(
    cells: Sequence[Cell],
    options: RunOptions,
    placement: Placement,
    *,
    table_name: str,
    address: str | None = None,
    max_concurrent: int | None = None,
    while_running: Callable[[GridProgress], None] = lambda _progress: None,
) -> GridOutcome:
    """Train cells on Ray: here, or on the cluster at `address`.

    Args:
        cells: what is missing, each trial once.
        while_running: called about twice a second with the progress, from another thread.
    Raises: PlacementError where the cluster can never give what a trial needs.
    """
    storage = Storage(options.storage)
    with Lease(storage, table_name, [cell.trial_id for cell in cells]) as lease:
        mine = [cell for cell in cells if cell.trial_id in lease.trial_ids]
        if not mine:
            return GridOutcome({}, was_interrupted=False)
        progress = GridProgress({c.trial_id: TrialProgress(c.name, num_steps=c.spec.num_steps) for c in mine})
        with _ray(address), _scratch(storage, address, lease.name) as scratch:
            cluster = ray.cluster_resources()
            placement = placement.settled(options.device, cluster)
            progress.at_once = trials_at_once(placement, cluster)
            if max_concurrent is not None:
                progress.at_once = min(progress.at_once, max_concurrent)
            orders = [_order(cell, options, placement, lease, scratch) for cell in mine]
            with _Stopper(storage, lease.name) as stopper, _ticking(while_running, progress):
                _tune(orders, progress, scratch, lease.name)
    problems = {i: p.message for i, p in progress.trials.items() if p.phase not in ("done", "stopped")}
    return GridOutcome(problems, was_interrupted=stopper.was_asked)


def _order(cell: Cell, options: RunOptions, placement: Placement, lease: Lease, scratch: str) -> Order:
    return Order(
        trial_id=cell.trial_id,
        spec=cell.spec.model_dump_json(),
        options=options.model_dump_json(),
        placement=placement,
        driver=lease.name,
        started=lease.started,
        scratch=scratch,
    )


def _tune(orders: Sequence[Order], progress: GridProgress, scratch: str, name: str) -> None:
    tuner = tune.Tuner(
        tune.with_resources(train_cell, {"CPU": DRIVER_CPUS}),
        param_space={"order": tune.grid_search([order.as_config() for order in orders])},
        tune_config=tune.TuneConfig(max_concurrent_trials=progress.at_once, trial_dirname_creator=_trial_name),
        run_config=tune.RunConfig(
            name=name,
            storage_path=scratch,
            verbose=0,
            callbacks=[_Watcher(progress)],
            failure_config=tune.FailureConfig(max_failures=_TUNE_RETRIES),
        ),
    )
    tuner.fit()


def _trial_name(trial: Any) -> str:
    return str(trial.config["order"]["trial_id"])


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """A Ray of our own, or a connection to a cluster, to which the code is shipped."""
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # The helper processes of a trial are many and small: Ray otherwise starts one per CPU at a time, and warns.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "8")
    if address is None:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    else:
        _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    """Connect to a cluster and ship the code. Raises: ConnectionError with what to look at."""
    try:
        ray.init(address=address, log_to_driver=False, runtime_env={"py_modules": _rooms()}, logging_level="ERROR")
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}: is the cluster up at --address {address}? Where it asks for a token (Ray's default since 2.59), "
            "put the token where Ray looks for it and set RAY_AUTH_MODE=token"
        ) from error


def _rooms() -> list[str]:
    """The folders of our own packages, as a cluster needs them."""
    here = Path(__file__).parent.parent
    return [str(here / room) for room in ("trainer", "experiments", "orchestrator", "results")]


@contextmanager
def _scratch(storage: Storage, address: str | None, driver: str) -> Iterator[str]:
    """A place for Tune's and Train's own files, which nobody reads: here, or beside the storage for a cluster."""
    if address is None:
        folder = tempfile.mkdtemp(prefix="mixgrid-")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        try:
            yield storage.url_of(f"scratch/{driver}")
        finally:
            with suppress(OSError):
                storage.remove(f"scratch/{driver}")


class _Stopper:
    """First Ctrl-C or SIGTERM, or word from `mixgrid cancel`: running trials checkpoint and stop within the grace.

    A second signal: at once. Trials stop by themselves at the word in storage; after the grace Tune is told to end, by
    its own signal.
    """

    def __init__(self, storage: Storage, driver: str) -> None:
        self.was_asked = False
        self._storage = storage
        self._path = stop_path(driver)
        self._before: dict[int, Any] = {}
        self._ended = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="stop word", daemon=True)

    def __enter__(self) -> "_Stopper":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        self._listener.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._listener.join(timeout=HEARTBEAT_SECONDS)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        with suppress(OSError):
            self.was_asked = self.was_asked or self._storage.exists(self._path)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self.was_asked:
            raise KeyboardInterrupt
        self.was_asked = True
        self._storage.write(self._path, b"stop\n")

    def _listen(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                self.was_asked = self.was_asked or self._storage.exists(self._path)
            if self.was_asked and not self._ended.wait(GRACE_SECONDS):
                os.kill(os.getpid(), signal.SIGUSR1)
                return


@contextmanager
def _ticking(call: Callable[[GridProgress], None], progress: GridProgress) -> Iterator[None]:
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.5):
            call(progress)

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)
        call(progress)
