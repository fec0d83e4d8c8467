"""Commands that print see with glances what reading every record says, of a table with every kind of hole."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import TABLES
from experiments.table import Table, find_table
from orchestrator.cli.app import app
from orchestrator.cli.common import Places
from orchestrator.cli.grid import hours_taken
from orchestrator.cli.stale import Viewer, judge_here
from orchestrator.here import versions_here
from orchestrator.lease import process_started
from orchestrator.plan import PlannedCell, survey
from results import glance
from results.glance import MEMORY
from results.usage import hours_line, read_usage
from tests.orchestrator.test_lease import write_driver
from tests.results.builders import ATTEMPT, change_sealed, judged, put_done, put_failed, put_manifest, put_partial
from trainer.code import code_digest
from trainer.records import attempt_path, trial_path
from trainer.storage import Storage

SETTINGS = ("num_steps=20", "evaluation.every=10", "method.supervised_start=5")
SELECTED = {"rows": "Supervised,ComplexMix", "seeds": "0,1"}


@pytest.fixture(autouse=True)
def nothing_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "_YOUNG_NS", 0)


@pytest.fixture
def table() -> Table:
    return find_table("demo", TABLES).changed(SETTINGS).selected(**SELECTED)


@pytest.fixture
def storage(table: Table, tmp_path: Path) -> Storage:
    """Cells that are done, stale, failed, half done, at work, damaged and missing."""
    storage = Storage(str(tmp_path / "runs"))
    done, stale, failed, partial, running, damaged, *_missing = (cell.spec for cell in table.cells())
    for spec in (done, stale, damaged):
        put_done(storage, spec, code=code_digest() if spec is done else "c0de" * 16)
        manifest = attempt_path(spec.trial_id, ATTEMPT, "manifest.json")
        change_sealed(storage, manifest, lambda body: body.update(versions=versions_here()))
    put_failed(storage, failed)
    put_partial(storage, partial, judged(10, 0.5))
    put_manifest(storage, running)
    write_driver(storage, running.trial_id, pid=os.getpid(), started=process_started(os.getpid()))
    path = trial_path(damaged.trial_id, "result.json")
    storage.write(path, storage.read(path).replace(b"0.25", b"0.75"))
    return storage


def printed(command: str, storage: Storage, places: Places) -> str:
    chosen = [word for option, words in SELECTED.items() for word in (f"--{option}", words)]
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    where = ["--storage", storage.url, "--data", places.data, "--cache", str(places.cache)]
    told = CliRunner().invoke(app, [command, "demo", *settings, *chosen, *where])
    assert told.exit_code == 0, told.output
    return told.output


def hours_in_full(planned: Sequence[PlannedCell], storage: Storage) -> str:
    running = {item.cell.trial_id for item in planned if item.state == "running"}
    return hours_line(read_usage(storage, [item.cell.trial_id for item in planned], running=running))


def test_cells_and_hours_are_those_of_reading_every_record(table: Table, storage: Storage, tmp_path: Path) -> None:
    places = Places(str(tmp_path / "data"), str(tmp_path / "cache"))
    in_full = survey(table, storage, judge_here(storage, places))
    assert [item.state for item in in_full[:6]] == ["done", "done", "failed", "partial", "running", "partial"]
    assert [bool(item.stale) for item in in_full[:2]] == [False, True]
    for _cold_then_warm in range(2):
        viewer = Viewer.of(storage, places)
        planned = viewer.survey(table)
        assert planned == in_full
        assert hours_taken(planned, viewer) == hours_in_full(in_full, storage) != ""
    assert len(viewer.glances.seen) == 2


@pytest.mark.parametrize("command", ["status", "plan", "table"])
def test_a_command_prints_the_same_at_every_look(command: str, storage: Storage, tmp_path: Path) -> None:
    places = Places(str(tmp_path / "data"), str(tmp_path / "cache"))
    cold = printed(command, storage, places)
    assert storage.exists(MEMORY)
    assert printed(command, storage, places) == cold
    storage.remove(MEMORY)
    assert printed(command, storage, places) == cold


def test_what_is_accepted_in_between_is_no_longer_stale(table: Table, storage: Storage, tmp_path: Path) -> None:
    from orchestrator.stale_results import accept

    places = Places(str(tmp_path / "data"), str(tmp_path / "cache"))
    stale = Viewer.of(storage, places).survey(table)[1]
    accept(storage, stale.cell.trial_id, attempt=ATTEMPT, facts={"code": code_digest()}, why="a comment changed")
    assert "code" in stale.stale
    assert Viewer.of(storage, places).survey(table)[1].stale == ""
