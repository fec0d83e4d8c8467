"""What Ray, Tune and Train are asked by environment variables."""

import os

import pytest
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE
from ray.tune.constants import TUNE_ENV_VARS

from orchestrator.ray_settings import SETTINGS, apply_ray_settings


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is as it was afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "7")
    apply_ray_settings()
    assert os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "7"
    assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"


def test_tune_knows_its_names_and_hands_those_of_train_to_the_processes_of_a_trial() -> None:
    assert {name for name in SETTINGS if name.startswith("TUNE_")} <= TUNE_ENV_VARS
    assert {name for name in SETTINGS if name.startswith("RAY_TRAIN_")} <= ENV_VARS_TO_PROPAGATE


def test_a_silent_rank_is_given_up_in_minutes_but_not_while_its_storage_may_be_silent() -> None:
    assert 63 < float(SETTINGS["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"]) <= 180
