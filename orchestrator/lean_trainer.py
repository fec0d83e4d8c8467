"""A TorchTrainer that starts no process which our trials have no use for. Knows Ray, and a little of its inside."""

import asyncio
from typing import Any

from ray import tune
from ray.train import Checkpoint, UserCallback
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.controller import TrainController

# Ray's own names of what it adds to every trainer. By name, since they are internal: one that goes is not missed.
_UNUSED = {"DatasetsCallback"}  # starts an actor that deals out Ray Datasets, of which we have none


class LeanTorchTrainer(TorchTrainer):  # type: ignore[misc]  # Ray is untyped here
    """Controls its workers from the process that calls `fit`, and leaves out the actor for Ray Datasets.

    Ray gives the controller a process of its own, so that a program which merely waits for the end may do as it likes.
    A Tune trial is nothing but that waiting, has imported all of it for the trial before, and dies with its controller
    either way: its workers are its own, and Ray's cleaner, which watches the actor it was started by, frees what they
    held.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in _UNUSED]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        controller = TrainController(**parts)
        asyncio.run(controller.run())
        return controller.get_result()


class TellTune(UserCallback):  # type: ignore[misc]
    """Hands the report of rank 0 on to Tune: at once, since the controller runs in the trial's own process."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Called by the controller once every rank has reported."""
        tune.report(metrics[0])
