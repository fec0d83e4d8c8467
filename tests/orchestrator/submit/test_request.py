"""The identity of a submission, and the command line that does its work elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import running
from orchestrator.cli.app import app
from orchestrator.resources import Placement
from orchestrator.submit.request import Nodes, SubmitError, option_words
from tests.orchestrator.conftest import small_table
from tests.orchestrator.submit.conftest import job, submission
from trainer.spec import RunOptions

OTHER_PLACES = RunOptions(
    storage="s3://bucket/x", data="/elsewhere", cache="/c", weights="/w", device="cpu", submission="x-1"
)
ALL_OPTIONS = RunOptions(
    storage="/shared/runs",
    data="/shared/da ta",
    cache="/cache",
    weights="/weights",
    device="cpu",
    threads=3,
    checkpoint_every=7,
    log_every=5,
    keep="checkpoints",
    accept_change=True,
    hang_seconds=60.0,
    progress_seconds=1.0,
    activation_checkpointing=True,
    deterministic=True,
    previews=False,
    channels_last=True,
    images_on_device="auto",
)
COMPILED = ALL_OPTIONS.changed(compile="default", activation_checkpointing=False)
"""What does not go together with one of all the others."""


def test_the_id_is_the_same_from_every_place_and_machine() -> None:
    here = submission()
    there = submission(options=OTHER_PLACES, words=("other/way/to/small.py",), max_concurrent=1, waits_for_nodes=True)
    assert here.id == there.id == "small-" + here.id[-12:]


@pytest.mark.parametrize(
    "changed",
    [
        {"table": small_table(num_steps=13)},
        {"table": replace(small_table(), seeds=(0, 1))},
        {"options": RunOptions(device="cuda")},
        {"options": RunOptions(device="cpu", checkpoint_every=5)},
        {"placement": Placement(workers=2)},
        {"placement": Placement(node_labels="gpu=h100")},
        {"retry_failed": True},
    ],
)
def test_the_id_changes_with_what_is_to_be_done(changed: dict[str, Any]) -> None:
    assert submission(**changed).id != submission().id


@pytest.mark.parametrize("name", ["Table_1 (full)", "1st", "x" * 90, "a.-", "..."])
def test_the_name_of_a_job_is_one_that_kubernetes_takes(name: str) -> None:
    table = small_table()
    object.__setattr__(table, "name", name)
    called = job(attempt=12, table=table).name
    assert len(called) <= 47
    assert called[0].isalpha()
    assert called == called.lower()
    assert called.replace("-", "").isalnum()


@pytest.mark.parametrize("options", [ALL_OPTIONS, COMPILED], ids=["all", "compiled"])
def test_the_words_of_a_run_say_every_option_again(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch, table_file: str
) -> None:
    seen = {}

    def noted(request: running.Request, _console: object, **more: object) -> int:
        seen.update(request=request, **more)
        return 0

    monkeypatch.setattr(running, "run_table", noted)
    monkeypatch.setattr("orchestrator.cli.common.Selection.remember", lambda *_: pytest.fail("a job remembers nothing"))
    asked = job(
        options=options,
        placement=Placement(1, 3, 0.5, "gpu=h100,zone=a"),
        max_concurrent=2,
        waits_for_nodes=True,
        retry_failed=True,
        tracking_uri="http://tracker:5000",
    )
    words = replace(asked, words=(table_file, "--set", "num_steps=9")).run_words("ray-head:1")
    assert "--submission" not in option_words(OTHER_PLACES)
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    request = seen["request"]
    assert (request.options, request.address) == (options.changed(submission=asked.name), "ray-head:1")
    assert request.placement == Placement(1, 3, 0.5, "gpu=h100,zone=a")
    assert (request.agenda.max_concurrent, request.retry_failed, request.restart) == (2, True, False)
    assert request.agenda.waits_for_nodes
    assert (seen["tracking_uri"], seen["with_mlflow"]) == ("http://tracker:5000", True)
    assert {cell.spec.num_steps for cell in request.table.cells()} == {9}


@pytest.mark.parametrize(("command", "tries_failed"), [("run", False), ("resume", True)])
def test_only_resume_tries_failed_cells_again(
    command: str, tries_failed: bool, monkeypatch: pytest.MonkeyPatch, table_file: str, tmp_path: Path
) -> None:
    seen: list[running.Request] = []
    monkeypatch.setattr(running, "run_table", lambda request, *_, **__: seen.append(request) or 0)
    ended = CliRunner().invoke(app, [command, table_file, "--storage", str(tmp_path / "runs")])
    assert (ended.exit_code, [request.retry_failed for request in seen]) == (0, [tries_failed]), ended.output


def test_every_option_of_a_trial_was_tried_above() -> None:
    default, tried = RunOptions(), (ALL_OPTIONS, COMPILED)
    same = [n for n in RunOptions.model_fields if all(getattr(options, n) == getattr(default, n) for options in tried)]
    assert same == ["gpus_per_worker", "submission"]  # set where ranks are started


def test_without_a_tracking_uri_no_file_is_written_on_a_shared_folder() -> None:
    assert "--no-mlflow" in job().run_words("auto")


def test_a_run_waits_for_nodes_only_where_asked() -> None:
    for asked in (True, False):
        words = job(waits_for_nodes=asked, max_concurrent=2).run_words("auto")
        assert ("--wait-for-nodes" in words) == asked


@pytest.mark.parametrize(
    ("placement", "nodes", "trials"),
    [
        (Placement(gpus_per_worker=1.0), Nodes(0, 8, 2, most=4), 8),
        (Placement(cpus_per_worker=5, gpus_per_worker=1.0), Nodes(1, 8, 2, most=4), 4),
        (Placement(workers=3, gpus_per_worker=1.0), Nodes(0, 8, 2, most=4), 2),
        (Placement(gpus_per_worker=0.1), Nodes(0, 16, 1, most=1), 10),
        (Placement(2, 3, gpus_per_worker=0.0), Nodes(0, most=4), 4),
        (Placement(gpus_per_worker=1.0), Nodes(4, 8, 2), None),
    ],
    ids=["by GPUs", "by CPUs", "over nodes", "shares", "as large as a trial", "a fixed number"],
)
def test_as_many_trials_run_at_once_as_the_most_nodes_hold(
    placement: Placement, nodes: Nodes, trials: int | None
) -> None:
    assert nodes.trials_at_once(submission(placement=placement)) == trials


def test_nodes_that_cannot_hold_a_trial_are_refused() -> None:
    wanted = submission(placement=Placement(workers=4, gpus_per_worker=1.0))
    with pytest.raises(SubmitError, match="room for 2 workers, and a trial has 4"):
        Nodes(0, 8, 2, most=1).trials_at_once(wanted)


@pytest.mark.parametrize(
    ("count", "most", "message"),
    [(0, None, "--nodes 0: give 1 or more"), (3, 2, "fewest"), (-1, 2, "fewest"), (0, 0, "fewest")],
)
def test_a_number_of_nodes_that_means_nothing_is_refused(count: int, most: int | None, message: str) -> None:
    with pytest.raises(SubmitError, match=message):
        Nodes(count, most=most)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "sqlite:///runs/mlflow.db", "mlruns", "./mlruns"])
def test_a_tracking_uri_that_means_another_place_in_a_job_is_refused(uri: str) -> None:
    with pytest.raises(SubmitError, match="with four strokes"):
        submission(tracking_uri=uri)
    assert submission(tracking_uri="sqlite:////shared/mlflow.db").tracking_uri == "sqlite:////shared/mlflow.db"


def test_inputs_are_found_where_they_are_mounted() -> None:
    asked = replace(job(), words=("inputs/0-small.py:SMALL", "--set", "labeled_names=@inputs/1-names.txt"))
    assert asked.run_words("auto", inputs="/mnt/in")[1:4] == [
        "/mnt/in/0-small.py:SMALL",
        "--set",
        "labeled_names=@/mnt/in/1-names.txt",
    ]


@pytest.mark.parametrize(
    ("device", "placement", "nodes", "wanted"),
    [
        ("cpu", Placement(2, 3), Nodes(), (6, 0)),
        ("auto", Placement(2, 3), Nodes(), (6, 2)),
        ("cuda", Placement(1, 1, 0.5), Nodes(), (1, 1)),
        ("cuda", Placement(4, 2, 2.0), Nodes(), (8, 8)),
        ("auto", Placement(), Nodes(cpus=32, gpus=4), (32, 4)),
        ("auto", Placement(), Nodes(gpus=0), (1, 0)),
    ],
)
def test_a_node_has_what_one_trial_needs_unless_told(
    device: str, placement: Placement, nodes: Nodes, wanted: tuple[int, int]
) -> None:
    asked = submission(options=RunOptions.model_validate({"device": device}), placement=placement)
    assert nodes.settled(asked) == wanted
