"""What the driver of a trial decides from storage alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

from orchestrator import trainable
from orchestrator.lease import stop_path
from orchestrator.resources import Placement
from orchestrator.trainable import (
    Drained,
    Order,
    RayHost,
    _scaling,
    found_no_devices,
    group_config,
    is_on_drained_node,
    newest_step,
    stalled_attempts,
    work,
)
from results.glance import OWN
from tests.results.builders import put_done, spec_of
from trainer.attempt import Outcome
from trainer.host import Host
from trainer.records import (
    Commit,
    Digests,
    Manifest,
    attempt_path,
    checkpoint_name,
    trial_path,
)
from trainer.run import failure_reason
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage

DIGESTS = Digests(code="c", data="d", split="s", weights="w", precision="float32")


def write_attempt(storage: Storage, name: str, *, started: float, resumed: int, commits: tuple[int, ...] = ()) -> None:
    manifest = Manifest(
        trial_id="t",
        attempt=name,
        started=started,
        resumed_from_step=resumed,
        resumed_from_attempt=None,
        digests=DIGESTS,
        versions={},
        host="h",
        pid=1,
        device="cpu",
        world_size=1,
        threads=1,
        options={},
        class_names=("a", "b"),
        num_labeled=1,
        num_unlabeled=1,
        labeled_names=("x",),
    )
    storage.write(attempt_path("t", name, "manifest.json"), manifest.sealed())
    for step in commits:
        commit = Commit(
            trial_id="t",
            attempt=name,
            step=step,
            time=started,
            digests=DIGESTS,
            world_size=1,
            wall_seconds=1.0,
            files={},
            segments=(),
        )
        storage.write(attempt_path("t", name, checkpoint_name(step), "commit.json"), commit.sealed())


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_attempts_without_a_new_checkpoint_are_counted(storage: Storage) -> None:
    write_attempt(storage, "a1", started=10.0, resumed=0, commits=(5,))
    write_attempt(storage, "a2", started=11.0, resumed=5)
    write_attempt(storage, "a3", started=12.0, resumed=5)
    assert newest_step(storage, "t") == 5
    assert stalled_attempts(storage, "t", since=0.0) == 2


def test_a_new_checkpoint_starts_the_count_again(storage: Storage) -> None:
    write_attempt(storage, "a1", started=10.0, resumed=0)
    write_attempt(storage, "a2", started=11.0, resumed=0, commits=(5,))
    assert stalled_attempts(storage, "t", since=0.0) == 0


def test_attempts_of_earlier_runs_do_not_count(storage: Storage) -> None:
    write_attempt(storage, "a1", started=10.0, resumed=0)
    assert stalled_attempts(storage, "t", since=11.0) == 0


def test_an_order_survives_tunes_plain_dictionaries() -> None:
    order = Order("t", "{}", "{}", Placement(2, 3, 0.0), "d", 1.0, "/tmp/x")
    assert Order.from_config(order.as_config()) == order


def test_workers_ask_ray_for_nodes_with_the_labels() -> None:
    scaling = _scaling(Placement(2, 3, 0.0, "gpu=h100,zone=a"))
    assert scaling.label_selector == {"gpu": "h100", "zone": "a"}
    assert _scaling(Placement()).label_selector is None


def test_a_word_in_storage_asks_trials_to_stop(storage: Storage) -> None:
    host = RayHost(storage, "d")
    assert not host.stop_requested(1)
    storage.write(stop_path("d"), b"stop\n")
    assert host.stop_requested(1)


def test_an_actor_of_ray_that_dies_is_no_failure_of_the_trial(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(_scalars: object) -> None:
        raise ActorDiedError

    monkeypatch.setattr("ray.train.report", report)
    with pytest.raises(ConnectionError, match="did not reach Ray") as raised:
        RayHost(storage, "d").report({"step": 1})  # type: ignore[typeddict-item]
    assert failure_reason(raised.value) is None  # so that it is raised, and tried again


def order_of(storage: Storage, **changed: object) -> Order:
    fields = {
        "trial_id": "t",
        "spec": TrialSpec().model_dump_json(),
        "options": RunOptions(storage=storage.url).model_dump_json(),
        "placement": Placement(),
        "driver": "d",
        "started": 0.0,
        "scratch": "",
    }
    return Order(**{**fields, **changed})


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The nodes that Ray drains, of a trial on n1 and n2."""
    drained: set[str] = set()
    monkeypatch.setattr(trainable, "draining_nodes", lambda: frozenset(drained))
    monkeypatch.setattr(trainable, "nodes_of_trial", lambda: frozenset({"n1", "n2"}))
    monkeypatch.setattr("ray.train.report", lambda _scalars: None)
    return drained


def test_a_trial_stops_where_one_of_its_nodes_is_drained(storage: Storage, draining: set[str]) -> None:
    host = RayHost(storage, "d", {"n1", "n2"})
    draining.add("n3")
    assert not host.stop_requested(1)
    draining.add("n2")
    assert host.stop_requested(1)
    assert not host.is_told_to_stop


def run_to_a_stop(_spec: TrialSpec, _options: RunOptions, host: Host) -> Outcome:
    assert host.stop_requested(1)
    return Outcome("stopped", "stopped after step 1")


def test_what_stopped_for_a_drained_node_goes_on_and_what_was_told_to_stop_does_not(
    storage: Storage, draining: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.run.run_trial", run_to_a_stop)
    draining.update({"n1", "n2"})
    order = order_of(storage)
    with pytest.raises(Drained, match="stopped after step 1: Ray drains node n1, n2"):
        work({"order": order.as_config()})
    storage.write(stop_path("d"), b"stop\n")
    work({"order": order.as_config()})


def test_the_process_of_a_trial_moves_where_its_own_node_is_drained() -> None:
    cause = Drained("stopped after step 1: Ray drains node n1, n2")
    assert is_on_drained_node(WorkerGroupError("", {0: cause}), "n2")
    assert not is_on_drained_node(WorkerGroupError("", {0: cause}), "n3")
    assert not is_on_drained_node(WorkerGroupError("", {0: ValueError("n2")}), "n2")
    assert not is_on_drained_node(ControllerError(cause), "n2")


def test_waiting_for_devices_is_no_failure() -> None:
    assert found_no_devices(ControllerError(WorkerGroupStartupTimeoutError(2)))
    assert not found_no_devices(ControllerError(WorkerGroupStartupFailedError("a worker died")))
    assert not found_no_devices(WorkerGroupError("", {0: ValueError("x")}))


@pytest.mark.usefixtures("draining")
def test_an_attempt_records_the_share_of_a_gpu_that_its_ranks_were_given(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RunOptions] = []

    def run_trial(_spec: TrialSpec, options: RunOptions, _host: object) -> Outcome:
        seen.append(options)
        return Outcome("done")

    monkeypatch.setattr("trainer.run.run_trial", run_trial)
    order = order_of(storage, placement=Placement(gpus_per_worker=0.25))
    work({"order": order.as_config()})
    assert [options.gpus_per_worker for options in seen] == [0.25]


@pytest.mark.usefixtures("draining")
@pytest.mark.parametrize(("rank", "kind", "is_left"), [(0, "done", True), (1, "done", False), (0, "failed", False)])
def test_the_first_rank_of_a_trial_that_is_done_leaves_a_glance_at_it(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, rank: int, kind: Any, is_left: bool
) -> None:
    spec = spec_of("ClassMix")
    put_done(storage, spec)
    monkeypatch.setattr("trainer.run.run_trial", lambda *_: Outcome(kind))
    monkeypatch.setattr("trainer.distributed.rank", lambda: rank)
    work({"order": order_of(storage, trial_id=spec.trial_id, spec=spec.model_dump_json()).as_config()})
    assert storage.exists(trial_path(spec.trial_id, OWN)) == is_left


# --- several hosts ------------------------------------------------------------------------------------------------


class Workers:
    """Ranks on some nodes; notes what each is asked to do."""

    def __init__(self, *nodes: str) -> None:
        self.nodes, self.asked = nodes, list[str]()

    def execute(self, function: Callable[[], object]) -> list[str]:
        self.asked.append(function.__name__)
        return list(self.nodes)


@pytest.mark.parametrize(
    ("nodes", "is_told"), [(("10.0.0.1", "10.0.0.2"), True), (("10.0.0.1", "10.0.0.1"), False), (("10.0.0.1",), False)]
)
def test_ranks_of_several_nodes_are_told_their_network_before_they_form_a_group(
    nodes: tuple[str, ...], is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workers = group_config("gloo"), Workers(*nodes)
    (rays_own,) = config.backend_cls.__bases__
    monkeypatch.setattr(
        rays_own, "on_start", lambda _self, _group, given: workers.asked.append(f"{given.backend} group")
    )
    config.backend_cls().on_start(workers, config)
    told = ["_speak_over_node_address"] if is_told else []
    assert workers.asked == ["_node_address", *told, "gloo group"]
