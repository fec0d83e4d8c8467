"""What is sent to a job server, and what its refusals are told as."""

import json
from collections.abc import Callable

import pytest

from orchestrator.submit import ray_jobs
from orchestrator.submit.ray_jobs import RayOptions, job_address, request_of
from orchestrator.submit.request import Nodes, SubmitError
from tests.orchestrator.submit.conftest import job


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def test_the_request_is_what_it_was(golden: Callable[[str, str], None]) -> None:
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/orchestrator/submit/test_ray_jobs.py"""
    golden("ray-job.json", json.dumps(request_of(job(), Nodes(), RayOptions(env=("KEY",))), indent=1) + "\n")


def test_values_of_variables_are_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "secret")
    assert "secret" not in json.dumps(request_of(job(), Nodes(), RayOptions(env=("KEY",))))
    assert RayOptions(env=("KEY",)).variables() == {"KEY": "secret"}
    with pytest.raises(SubmitError, match="--env OTHER: there is no such variable here"):
        RayOptions(env=("KEY", "OTHER")).variables()


def test_the_address_is_as_given_or_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://a:1")
    assert job_address(None) == job_address("http://a:1") == "http://a:1"
    with pytest.raises(SubmitError, match="RAY_ADDRESS says http://a:1: unset it"):
        job_address("http://b:1")


def test_nobody_at_the_address_is_said() -> None:
    with pytest.raises(SubmitError, match="no job server answers at --address http://127.0.0.1:9"):
        ray_jobs._client("http://127.0.0.1:9")


def test_a_wrong_token_is_told_apart_from_none() -> None:
    wrong = ray_jobs._what_of_the_token("Authentication failed: Forbidden: Invalid authentication token\n\nmore")
    assert wrong.startswith("refused the token that Ray found here (RAY_AUTH_TOKEN")
    missing = ray_jobs._what_of_the_token("Authentication required: Unauthorized\n\nmore")
    assert missing.startswith("asks for a token (Ray's default since 2.59)")
    assert missing.endswith(": Authentication required: Unauthorized")
