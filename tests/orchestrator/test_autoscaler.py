"""When Ray's autoscaler is told what, and that the request is taken back however a run ends. Without Ray."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import autoscaler
from orchestrator.autoscaler import Autoscaler
from orchestrator.demand import bundles_of
from orchestrator.resources import Placement

ROOT = Path(__file__).parents[2]
ONE = {"CPU": 1.0, "GPU": 1.0}
# As much of Ray as the guard and the run need, which notes what it is asked.
FAKE_RAY = {
    "__init__.py": """
        import json, os
        def note(**said):
            with open(os.environ["NOTES"], "a") as notes:
                notes.write(json.dumps(said) + chr(10))
        def init(address, **_more):
            note(joined=address, job="RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ)
        class _Context:
            gcs_address = "head:6379"
        get_runtime_context = _Context
    """,
    "exceptions.py": "class RayError(Exception): pass",
    "autoscaler/__init__.py": "",
    "autoscaler/sdk.py": """
        from ray import note
        def request_resources(bundles, bundle_label_selectors):
            note(bundles=bundles, labels=bundle_label_selectors)
    """,
}
RUN = """
import sys, time
from orchestrator.autoscaler import Autoscaler
with Autoscaler(lambda n: ([{"GPU": 1.0}] * n, [{}] * n)) as asking:
    asking.need(2)
    if sys.argv[1] == "fails":
        time.sleep(2)
        raise ValueError("the run fails")
    print("asked", flush=True)
    time.sleep(2 if sys.argv[1] == "ends" else 600)
"""


def wait_until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Said(list[list[dict[str, float]]]):
    """What the cluster was told; while it is deaf nothing reaches it."""

    is_deaf = False
    num_tries = 0

    def hear(self, bundles: tuple[list[dict[str, float]], list[dict[str, str]]]) -> bool:
        self.num_tries += 1
        if not self.is_deaf:
            self.append(bundles[0])
        return not self.is_deaf


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Said]:
    heard = Said()
    guard = SimpleNamespace(communicate=lambda *_words, **_more: None)
    monkeypatch.setattr(autoscaler, "_was_told", heard.hear)
    monkeypatch.setattr(autoscaler, "_start_guard", lambda: guard)
    monkeypatch.setattr(autoscaler, "_LOOK_SECONDS", 0.01)
    return heard


def asking() -> Autoscaler:
    placement = Placement(gpus_per_worker=1.0)
    return Autoscaler(lambda num_workers: bundles_of(placement, num_workers))


def test_a_need_is_told_when_it_changes_and_taken_back_at_the_end(said: Said) -> None:
    with asking() as told:
        assert said == []
        for number, needed in enumerate((3, 1), 1):
            told.need(needed)
            wait_until(lambda number=number: len(said) == number)  # type: ignore[misc]
            time.sleep(0.1)  # looks that have nothing new to say
    assert said == [[ONE] * 3, [ONE], []]


def test_a_request_is_made_again_now_and_then_since_another_run_may_have_replaced_it(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscaler, "_AGAIN_SECONDS", 0.02)
    with asking() as told:
        told.need(1)
        wait_until(lambda: len(said) >= 3)
    assert said[:3] == [[ONE]] * 3
    assert said[-1] == []


def test_what_the_cluster_did_not_hear_is_said_until_it_does(said: Said) -> None:
    said.is_deaf = True
    with asking() as told:
        told.need(2)
        wait_until(lambda: said.num_tries >= 3)
        said.is_deaf = False
        wait_until(lambda: len(said) == 1)
    assert said == [[ONE] * 2, []]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_it_is_taken_back_where_the_run_fails_or_is_interrupted(said: Said, error: type[BaseException]) -> None:
    def run() -> None:
        with asking() as told:
            told.need(2)
            wait_until(lambda: len(said) == 1)
            raise error

    with pytest.raises(error):
        run()
    assert said == [[ONE] * 2, []]


@pytest.mark.parametrize("way", ["ends", "fails", "is killed"])
def test_the_guard_takes_back_what_a_killed_run_asked_for_and_nothing_else(way: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    for name, text in FAKE_RAY.items():
        path = tmp_path / "ray" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "NOTES": str(notes)}
    environment["RAY_JOB_CONFIG_JSON_ENV_VAR"] = "{}"
    words = [sys.executable, "-c", RUN, way]
    with subprocess.Popen(words, env=environment, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        if way == "is killed":
            wait_until(lambda: notes.exists() and "GPU" in notes.read_text())
            os.killpg(process.pid, signal.SIGKILL)
    asked, *rest = map(json.loads, notes.read_text().splitlines())
    assert asked == {"bundles": [{"GPU": 1.0}] * 2, "labels": [{}] * 2}
    nothing = {"bundles": [], "labels": []}
    if way == "is killed":
        wait_until(lambda: len(notes.read_text().splitlines()) == 3)
        rest = [json.loads(line) for line in notes.read_text().splitlines()[1:]]
        assert rest == [{"joined": "head:6379", "job": False}, nothing]
    else:
        assert rest == [nothing], "the guard has ended with the run, and said nothing"
