"""The body of one Tune trial: TrialSpec to TorchTrainer to run_trial. One of the few files that know Ray."""

import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.lease import stop_path
from orchestrator.ray_settings import apply_ray_settings
from orchestrator.resources import Placement
from trainer.host import Progress
from trainer.reading import (
    find_commits,
    read_failure,
    read_manifests,
)
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage

# Attempts in a row without a new checkpoint after which a trial is left to a later run (design section 6).
ATTEMPT_LIMIT = 3


@dataclass(frozen=True, slots=True)
class Order:
    """One trial as Tune carries it: plain strings and numbers, so that Tune's bookkeeping stays small."""

    trial_id: str
    spec: str
    options: str
    placement: Placement
    driver: str
    started: float
    scratch: str

    def as_config(self) -> dict[str, Any]:
        """What goes into Tune's param_space."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Order":
        """Read it back in the trial."""
        return cls(**{**config, "placement": Placement(**config["placement"])})


class Drained(RuntimeError):  # noqa: N818  (what happened to the trial's nodes, not to the trial)
    """A node of the trial is about to be taken away: the trial has a checkpoint and goes on elsewhere."""


class RayHost:
    """Reports scalars through Ray Train; a trial stops where the driver left word, or where one of its nodes goes.

    Args:
        nodes: those that the trial's workers are on, by Ray's ids.
    """

    def __init__(self, storage: Storage, driver: str, nodes: Collection[str] = ()) -> None:
        self._storage = storage
        self._stop_path = stop_path(driver)
        self._nodes = frozenset(nodes)

    def report(self, progress: Progress) -> None:
        """Called by every rank at the same steps, as Ray Train's barrier needs.

        Raises: ConnectionError where an actor of Ray has died in between, which another try mends.
        """
        import ray.exceptions
        import ray.train

        try:
            ray.train.report(dict(progress))
        except ray.exceptions.RayError as error:
            raise ConnectionError(f"the report did not reach Ray: {error}") from error

    def stop_requested(self, step: int) -> bool:
        """Whether the driver left word to stop, or Ray drains a node of the trial."""
        return self.is_told_to_stop or bool(self.drained_nodes)

    @property
    def drained_nodes(self) -> list[str]:
        """Nodes of the trial that are about to be taken away."""
        return sorted(self._nodes & draining_nodes()) if self._nodes else []

    @property
    def is_told_to_stop(self) -> bool:
        """Whether the driver left word to stop."""
        return self._storage.exists(self._stop_path)


def draining_nodes() -> frozenset[str]:
    """The nodes of the cluster that Ray drains, by its ids."""
    import ray

    return frozenset(ray._private.state.state.get_draining_nodes())  # Ray has no public question for it


def nodes_of_trial() -> frozenset[str]:
    """The nodes that the workers of the trial are on which asks, by Ray's ids."""
    import ray.util

    group = ray.util.get_current_placement_group()
    return frozenset(ray.util.placement_group_table(group)["bundles_to_node_id"].values() if group else ())


def work(config: dict[str, Any]) -> None:
    """One rank: run the trial and report how it ended. What another try would not mend does not raise.

    Raises: Drained where the trial stopped for a node's sake and is to go on elsewhere.
    """
    import ray.train

    from results.glance import leave_glance
    from trainer.distributed import rank
    from trainer.run import run_trial

    order = Order.from_config(config["order"])
    options = RunOptions.model_validate_json(order.options).changed(gpus_per_worker=order.placement.gpus_per_worker)
    storage = Storage(options.storage)
    host = RayHost(storage, order.driver, nodes_of_trial())
    outcome = run_trial(TrialSpec.model_validate_json(order.spec), options, host)
    if outcome.kind == "done" and rank() == 0:
        leave_glance(storage, order.trial_id)
    if outcome.kind == "stopped" and not host.is_told_to_stop and (drained := host.drained_nodes):
        raise Drained(f"{outcome.message}: Ray drains node {', '.join(drained)}")
    if outcome.kind == "failed" and order.placement.workers > 1:
        raise RuntimeError(outcome.message)  # the other ranks may wait for this one: Ray ends them all
    ray.train.report({"outcome": outcome.kind, "message": outcome.message})


def train_cell(config: dict[str, Any]) -> None:
    """Drive one trial's workers, again after each worker failure while checkpoints advance.

    Raises: what ended the workers, where the node of this process is drained too: Tune starts it anew elsewhere.
    """
    import ray.train
    from ray import tune

    apply_ray_settings()
    order = Order.from_config(config["order"])
    storage = Storage(RunOptions.model_validate_json(order.options).storage)
    failures, last_error = 0, ""
    while True:
        if storage.exists(stop_path(order.driver)):
            tune.report({"outcome": "stopped", "message": "stopped before it began"})
            return
        failure = read_failure(storage, order.trial_id)
        if failure is not None:  # a run removes old ones before it begins
            tune.report({"outcome": "failed", "message": f"{failure.reason}: {failure.message}"})
            return
        before = newest_step(storage, order.trial_id)
        failures = max(failures, stalled_attempts(storage, order.trial_id, since=order.started))
        if failures >= ATTEMPT_LIMIT:
            message = f"{ATTEMPT_LIMIT} attempts in a row made no new checkpoint{last_error}; see `mixgrid logs`"
            tune.report({"outcome": "stalled", "message": message})
            return
        try:
            _trainer(order, config).fit()
            return
        except ray.train.TrainingFailedError as error:
            print(f"{order.trial_id}: {error}", flush=True)
            if is_on_drained_node(error, ray.get_runtime_context().get_node_id()):
                raise
            if not found_no_devices(error):
                failures = 0 if newest_step(storage, order.trial_id) > before else failures + 1
                last_error = f", the last one because of {_last_line(error)}"


def found_no_devices(error: Exception) -> bool:
    """Whether workers could not begin since their devices are not free: a node went, and others use what is left."""
    cause = getattr(error, "controller_failure", None)
    return type(cause).__name__ == "WorkerGroupStartupTimeoutError"  # Ray keeps the class to itself


def is_on_drained_node(error: Exception, node: str) -> bool:
    """Whether workers stopped because nodes are drained, and a certain node is one of them."""
    causes = getattr(error, "worker_failures", {}).values()
    return any("Drained" in f"{cause!r}" and node in str(cause) for cause in causes)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:300]


def _trainer(order: Order, config: dict[str, Any]) -> Any:
    import ray.train

    from orchestrator.lean_trainer import LeanTorchTrainer, TellTune

    computes_on_cpu = RunOptions.model_validate_json(order.options).device == "cpu"
    return LeanTorchTrainer(
        work,
        train_loop_config=config,
        torch_config=group_config("gloo" if computes_on_cpu else None),  # None: NCCL where it holds GPUs
        scaling_config=_scaling(order.placement),
        run_config=ray.train.RunConfig(
            name=f"{order.trial_id}-{uuid.uuid4().hex[:8]}",  # Train resumes by name: never by ours
            storage_path=order.scratch,
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=2),
            callbacks=[TellTune()],
        ),
    )


def _scaling(placement: Placement) -> Any:
    import ray.train

    return ray.train.ScalingConfig(
        num_workers=placement.workers,
        use_gpu=bool(placement.gpus_per_worker),
        resources_per_worker=placement.worker_resources,
        label_selector=placement.label_selector or None,
    )


def group_config(backend: str | None = None) -> Any:
    """How the ranks form a group: as Ray does it, over the network by which Ray knows their nodes.

    Args:
        backend: "gloo" or "nccl"; None lets Ray choose by the devices of a rank.
    """
    from ray.train.torch import TorchConfig

    class Backend(TorchConfig().backend_cls):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            nodes = worker_group.execute(_node_address)
            if len(set(nodes)) > 1:  # on one node the ranks meet over the loopback device, which is never unplugged
                worker_group.execute(_speak_over_node_address)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> type:
            return Backend

    return Config(backend=backend)


def _node_address() -> str:
    import ray.util

    return str(ray.util.get_node_ip_address())


def _speak_over_node_address() -> None:
    from trainer.network import speak_over

    speak_over(_node_address())


def stalled_attempts(storage: Storage, trial_id: str, *, since: float) -> int:
    """How many attempts of this run began at the newest checkpoint and made no newer one."""
    newest = newest_step(storage, trial_id)
    manifests, _ = read_manifests(storage, trial_id)
    return sum(manifest.started >= since and manifest.resumed_from_step == newest for manifest in manifests)


def newest_step(storage: Storage, trial_id: str) -> int:
    """Updates that are safe in the newest checkpoint."""
    commits = find_commits(storage, trial_id)
    return commits[0].step if commits else 0
