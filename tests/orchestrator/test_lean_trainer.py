"""What Ray adds to a trainer, and what of it a trial goes without."""

import inspect
import os
from types import SimpleNamespace

import pytest
from ray.train.torch import TorchTrainer

from orchestrator import lean_trainer
from orchestrator.lean_trainer import LeanTorchTrainer, TellTune

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")


def nothing() -> None:
    """A training function."""


def test_only_the_actor_for_datasets_is_left_out() -> None:
    usual, lean = (
        [type(each).__name__ for each in trainer(nothing)._create_default_callbacks()]
        for trainer in (TorchTrainer, LeanTorchTrainer)
    )
    assert set(usual) - set(lean) == {"DatasetsCallback"}
    assert {"BackendSetupCallback", "PlacementGroupCleanerCallback"} <= set(lean)


def test_the_controller_runs_in_the_process_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Controller:
        def __init__(self, **parts: object) -> None:
            self.parts = parts

        async def run(self) -> None:
            self.process = os.getpid()

        def get_result(self) -> tuple[object, int]:
            return self.parts, self.process

    monkeypatch.setattr(lean_trainer, "TrainController", Controller)
    ran = LeanTorchTrainer(nothing)._initialize_and_run_controller(callbacks=[])
    assert ran == ({"callbacks": []}, os.getpid())
    assert "self._initialize_and_run_controller(" in inspect.getsource(TorchTrainer.fit)  # Ray goes by this door


def test_tune_is_told_what_rank_0_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(lean_trainer, "tune", SimpleNamespace(report=told.append))
    TellTune().after_report(None, [{"step": 1}, {"step": 2}], None)
    assert told == [{"step": 1}]
