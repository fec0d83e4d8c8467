"""What Ray adds to a trainer, and what of it a trial goes without."""

import pytest
from ray.train.torch import TorchTrainer

from orchestrator.lean_trainer import LeanTorchTrainer


def nothing() -> None:
    """A training function."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_only_the_actor_for_datasets_is_left_out() -> None:
    usual, lean = (
        [type(each).__name__ for each in trainer(nothing)._create_default_callbacks()]
        for trainer in (TorchTrainer, LeanTorchTrainer)
    )
    assert set(usual) - set(lean) == {"DatasetsCallback"}
    assert {"BackendSetupCallback", "PlacementGroupCleanerCallback"} <= set(lean)
