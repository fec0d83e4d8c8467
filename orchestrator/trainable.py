"""The body of one Tune trial: TrialSpec to TorchTrainer to run_trial. One of the three files that know Ray."""

import os
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.lease import stop_path
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
# A rank that does not answer for so long is given up, and its trial goes on from its newest checkpoint. A network that
# was cut leaves calls that nobody answers; Ray Train waits 600 s for them. Not below the 63 s for which a rank may be
# silent while its storage is (trainer/remote.py).
_SILENT_RANK_SECONDS = 120
# How often Ray Train looks at its ranks, who wait for it at every report; its default of 2 s would hold up each.
_LOOK_SECONDS = 0.5


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


class RayHost:
    """Reports scalars through Ray Train; asks storage whether the driver wants its trials to stop."""

    def __init__(self, storage: Storage, driver: str) -> None:
        self._storage = storage
        self._stop_path = stop_path(driver)

    def report(self, progress: Progress) -> None:
        """Called by every rank at the same steps, as Ray Train's barrier needs."""
        import ray.train

        ray.train.report(dict(progress))

    def stop_requested(self, step: int) -> bool:
        """Whether the driver left word to stop."""
        return self._storage.exists(self._stop_path)


def work(config: dict[str, Any]) -> None:
    """One rank: run the trial and report how it ended. What another try would not mend does not raise."""
    import ray.train

    from trainer.run import run_trial

    order = Order.from_config(config["order"])
    options = RunOptions.model_validate_json(order.options).changed(gpus_per_worker=order.placement.gpus_per_worker)
    outcome = run_trial(
        TrialSpec.model_validate_json(order.spec), options, RayHost(Storage(options.storage), order.driver)
    )
    if outcome.kind == "failed" and order.placement.workers > 1:
        raise RuntimeError(outcome.message)  # the other ranks may wait for this one: Ray ends them all
    ray.train.report({"outcome": outcome.kind, "message": outcome.message})


def train_cell(config: dict[str, Any]) -> None:
    """Drive one trial's workers, again after each worker failure while checkpoints advance."""
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    watch_ranks()
    order = Order.from_config(config["order"])
    storage = Storage(RunOptions.model_validate_json(order.options).storage)
    failures = 0
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
            message = f"{ATTEMPT_LIMIT} attempts in a row made no new checkpoint; see `mixgrid logs`"
            tune.report({"outcome": "stalled", "message": message})
            return
        trainer = TorchTrainer(
            work,
            train_loop_config=config,
            torch_config=group_config(),
            scaling_config=_scaling(order.placement),
            run_config=ray.train.RunConfig(
                name=f"{order.trial_id}-{uuid.uuid4().hex[:8]}",  # Train resumes by name: never by ours
                storage_path=order.scratch,
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=2),
                callbacks=[TuneReportCallback()],
            ),
        )
        try:
            trainer.fit()
            return
        except ray.train.TrainingFailedError as error:
            print(f"{order.trial_id}: {error}", flush=True)
            failures = 0 if newest_step(storage, order.trial_id) > before else failures + 1


def _scaling(placement: Placement) -> Any:
    import ray.train

    return ray.train.ScalingConfig(
        num_workers=placement.workers,
        use_gpu=bool(placement.gpus_per_worker),
        resources_per_worker=placement.worker_resources,
        label_selector=placement.label_selector or None,
    )


def watch_ranks() -> None:
    """Tell Ray Train, in the process that starts it, how to look at ranks; what somebody has set stays."""
    os.environ.setdefault("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", str(_SILENT_RANK_SECONDS))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(_LOOK_SECONDS))


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
