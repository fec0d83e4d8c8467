"""The Tune driver: missing cells to a fresh Tuner to an outcome. Knows Ray; asks nothing of Tune's own state."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback
from ray.tune.search import Searcher

from experiments.table import Cell
from orchestrator.admission import TrialQueue
from orchestrator.agenda import Agenda
from orchestrator.autoscaler import Autoscaler
from orchestrator.demand import bundles_of, taken_by_others, workers_needed
from orchestrator.lease import Lease
from orchestrator.nodes import Node, room_on, settled_on
from orchestrator.progress import GridProgress, TrialProgress
from orchestrator.ray_settings import apply_ray_settings
from orchestrator.resources import (
    DRIVER_BYTES,
    DRIVER_CPUS,
    Placement,
    PlacementError,
    devices_of,
    drivers_that_fit,
    worker_needs,
)
from orchestrator.stopping import Stopper
from orchestrator.trainable import Order, draining_nodes, train_cell
from trainer.spec import RunOptions
from trainer.storage import Storage

# Tune retries a trial whose driver process died; what counts as too often is decided from storage (trainable.py).
_TUNE_RETRIES = 10
# After so long a trial that was let in has its devices, or they are not to be had.
_SETTLING_SECONDS = 60.0
# How often the cluster is asked what it has.
_LOOK_SECONDS = 1.0


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


class _Turnstile(Searcher):  # type: ignore[misc]
    """Withholds the next trial from Tune until devices for it are free; which one that is the queue says.

    The cluster is looked at again and again, so that nodes which come are used and nodes which went are not waited on.
    An autoscaler, where there is one, is told what there should be.
    """

    def __init__(
        self,
        queue: TrialQueue,
        orders: Mapping[str, Order],
        progress: GridProgress,
        stopper: Stopper,
        most_slots: float,
        autoscaler: Autoscaler | None = None,
    ) -> None:
        super().__init__()
        self._queue, self._orders, self._progress, self._stopper = queue, orders, progress, stopper
        self._placement = next(iter(orders.values())).placement
        self._most_slots, self._autoscaler = most_slots, autoscaler
        self._names: dict[str, str] = {}
        self._let_in: dict[str, float] = {}
        self._looked, self._slots, self._taken = -_LOOK_SECONDS, 0, 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A trial, None where none can start now, or word that none will any more."""
        now = time.monotonic()
        if self._stopper.was_asked or self._queue.is_over(now):
            for trial in self._queue.waiting:
                self._progress.trials[trial.trial_id].phase = "stopped"
            self._ask(now)
            return str(Searcher.FINISHED)
        chosen = self._queue.take([self._capacity(now)], now)
        self._ask(now)
        if chosen is None:
            return None
        self._names[trial_id] = chosen.trial_id
        self._let_in[chosen.trial_id] = now
        return {"order": self._orders[chosen.trial_id].as_config()}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Its devices are free again."""
        now = time.monotonic()
        self._queue.end(self._names[trial_id], now, is_done=(result or {}).get("outcome") == "done")
        self._looked = -_LOOK_SECONDS
        self._ask(now)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Tune's state is never read again."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy of what it was started with, and nobody reads it

    def _ask(self, now: float) -> None:
        """Tell the autoscaler what the cluster should have room for: what runs, and what could start."""
        if self._autoscaler is not None:
            startable = 0 if self._stopper.was_asked else len(self._queue.startable(now))
            trials = len(self._queue.running) + startable
            self._autoscaler.need(
                workers_needed(trials, self._placement, most_slots=self._most_slots, taken=self._taken)
            )

    def _capacity(self, now: float) -> int:
        """Workers that the cluster has room for, those of our own trials included."""
        if now - self._looked >= _LOOK_SECONDS:
            slots, free = room_on(self._placement, _staying_nodes())
            holding = sum(self._is_settled(name, now) for name in self._queue.running) * self._placement.workers
            self._taken = taken_by_others(slots, free, len(self._queue.running) * self._placement.workers)
            self._slots = min(slots, holding + free)
            self._progress.note = "" if slots >= self._placement.workers else _too_few(self._placement)
            self._looked = now
        return int(min(self._slots, self._most_slots))

    def _is_settled(self, name: str, now: float) -> bool:
        """Whether a trial holds its devices by now, so that what the cluster calls free is free of it."""
        is_starting = self._progress.trials[name].phase in ("waiting", "starting")
        return not is_starting or now - self._let_in[name] > _SETTLING_SECONDS


def _too_few(placement: Placement) -> str:
    """What is said while the cluster, were it empty, had no room for a single trial."""
    worker = " and ".join(f"{need:g} {name}" for name, need in worker_needs(placement).items())
    labels = f" labelled {placement.node_labels}" if placement.node_labels else ""
    return f"waiting for nodes{labels} with room for {placement.workers} x ({worker})"


def _staying_nodes() -> list[Node]:
    """Every node that lives and is not about to be taken away."""
    free = ray._private.state.available_resources_per_node()  # Ray has no public question for it
    leaving = draining_nodes()
    staying = (node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving)
    return [Node(node["Resources"], free.get(node["NodeID"], {}), node["Labels"]) for node in staying]


@dataclass(frozen=True, slots=True)
class GridOutcome:
    """What a run did: messages of trials that did not end well, whether it was interrupted, the trials that did not fit
    into its budget, and the device-hours it took.
    """

    problems: dict[str, str]
    was_interrupted: bool
    left_out: tuple[str, ...] = ()
    device_hours: float = 0.0


def run_cells(
    cells: Sequence[Cell],
    options: RunOptions,
    placement: Placement,
    *,
    table_name: str,
    agenda: Agenda,
    address: str | None = None,
    while_running: Callable[[GridProgress], None] = lambda _progress: None,
) -> GridOutcome:
    """Train cells on Ray: here, or on the cluster at `address`.

    Args:
        cells: what is missing, each trial once.
        agenda: in which order, and how much at most.
        while_running: called about twice a second with the progress, from another thread.
    Raises: PlacementError where the cluster as it is cannot give what a trial needs, and nodes are not waited for.
    """
    storage = Storage(options.storage)
    with Lease(storage, table_name, [cell.trial_id for cell in cells]) as lease:
        mine = [cell for cell in cells if cell.trial_id in lease.trial_ids]
        if not mine:
            return GridOutcome({}, was_interrupted=False)
        progress = GridProgress({c.trial_id: TrialProgress(c.name, num_steps=c.spec.num_steps) for c in mine})
        with _ray(address) as lease.dashboard, _scratch(storage, address, lease.name) as scratch:
            placement = _settled(placement, options.device, address, is_waiting=agenda.waits_for_nodes)
            queue = agenda.queue(mine, placement)
            orders = {cell.trial_id: _order(cell, options, placement, lease, scratch) for cell in mine}
            asking = Autoscaler(partial(bundles_of, placement)) if agenda.waits_for_nodes else nullcontext()
            with Stopper(storage, lease.name) as stopper, _ticking(while_running, progress), asking as autoscaler:
                home = _home()
                most_slots = min(agenda.most_slots(placement), drivers_that_fit(home.memory) * placement.workers)
                turnstile = _Turnstile(queue, orders, progress, stopper, most_slots, autoscaler)
                _tune(turnstile, len(orders), progress, home, scratch=scratch, name=lease.name)
    left_out = () if stopper.was_asked else tuple(trial.trial_id for trial in queue.waiting)
    problems = {i: p.message for i, p in progress.trials.items() if p.phase not in ("done", "stopped")}
    hours = queue.spent(time.monotonic()) * devices_of(placement) / 3600
    return GridOutcome(problems, stopper.was_asked, left_out, hours)


def _settled(placement: Placement, device: str, address: str | None, *, is_waiting: bool) -> Placement:
    """The placement with its GPUs decided. Raises: PlacementError where nodes are too few and none is waited for."""
    if is_waiting:
        return placement.settled(device, {})
    try:
        return settled_on(placement, device, _staying_nodes())
    except PlacementError as error:
        if address is None:
            raise
        raise PlacementError(f"{error}; where an autoscaler brings nodes, --wait-for-nodes asks for them") from error


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


@dataclass(frozen=True, slots=True)
class _Home:
    """The node of this process, and its memory for Ray in bytes: when it goes, the run goes with it."""

    node_id: str
    memory: float

    @property
    def place_of_a_driver(self) -> tune.PlacementGroupFactory:
        """Here, where it is as safe as the run itself, and with its memory counted."""
        needs = {"CPU": DRIVER_CPUS, "memory": min(DRIVER_BYTES, self.memory)}
        return tune.PlacementGroupFactory([needs], bundle_label_selector=[{"ray.io/node-id": self.node_id}])


def _home() -> _Home:
    node_id = ray.get_runtime_context().get_node_id()
    (here,) = (node for node in ray.nodes() if node["NodeID"] == node_id)
    return _Home(node_id, here["Resources"].get("memory", 0.0))


def _tune(
    turnstile: _Turnstile, num_trials: int, progress: GridProgress, home: _Home, *, scratch: str, name: str
) -> None:
    tuner = tune.Tuner(
        tune.with_resources(train_cell, home.place_of_a_driver),
        tune_config=tune.TuneConfig(
            search_alg=turnstile,
            num_samples=num_trials,
            trial_dirname_creator=_trial_name,
            reuse_actors=True,  # the process that drove a trial drives the next: it has imported everything
        ),
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
def _ray(address: str | None) -> Iterator[str]:
    """A Ray of our own, or a connection to a cluster, to which the code is shipped; gives its dashboard's address."""
    apply_ray_settings()
    if address is None:
        context = ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    else:
        context = _join(address)
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def _join(address: str) -> Any:
    """Connect to a cluster and ship the code. Raises: ConnectionError with what to look at."""
    try:
        return ray.init(
            address=address, log_to_driver=False, runtime_env={"py_modules": _rooms()}, logging_level="ERROR"
        )
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
