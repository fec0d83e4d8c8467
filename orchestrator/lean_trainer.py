"""A TorchTrainer that starts no process which our trials have no use for. Knows Ray."""

from typing import Any

from ray.train.torch import TorchTrainer

# Ray's own names of what it adds to every trainer. By name, since they are internal: one that goes is not missed.
_UNUSED = {"DatasetsCallback"}  # starts an actor that deals out Ray Datasets, of which we have none


class LeanTorchTrainer(TorchTrainer):  # type: ignore[misc]  # Ray is untyped here
    """Leaves out the helper actor for Ray Datasets: a process a trial, with an import of Ray Data and pandas."""

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in _UNUSED]
