"""Every part of the bench at its small size; no test here looks at a clock."""

import json
import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from orchestrator.bench.loader import pages_shared, write_scenes
from orchestrator.bench.measuring import Figure, Setting, peak_memory, ratio_of, spread_of, take_turns
from orchestrator.bench.parts import MEASURES, measure, prepared
from orchestrator.bench.rooms import classmix_spec
from orchestrator.bench.sharing import Shared, seconds_together, trials_at_once
from orchestrator.cli.app import app
from orchestrator.cli.benching import PARTS, lines_of
from trainer.build import open_data
from trainer.data.cache import CachedSplit, open_cache
from trainer.machine import keep_freed_memory
from trainer.spec import RunOptions, TinyNetwork

SMALL = Setting(torch.device("cpu"), rounds=1, size="small")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_command_knows_every_part() -> None:
    assert tuple(MEASURES) == PARTS


# Sharing starts a process for each trial, which takes a while to load torch.
@pytest.mark.parametrize("part", [p if p != "sharing" else pytest.param(p, marks=pytest.mark.chaos) for p in PARTS])
def test_a_part_measures_itself_beside_a_reference(part: str) -> None:
    figures = measure(part, SMALL)
    assert {figure.part for figure in figures} == {part}
    assert all(figure.seconds.median > 0 for figure in figures)
    assert any(figure.ratio is not None and figure.ratio.median > 0 and figure.target for figure in figures)


def test_the_figures_come_as_json_with_what_they_were_measured_on(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    result = CliRunner().invoke(app, ["bench", "masks", "--size", "small", "--rounds", "2", "--json", str(path)])
    assert result.exit_code == 0, result.output
    report = json.loads(path.read_text())
    assert report["setting"] == {"device": "cpu", "threads": 1, "rounds": 2, "size": "small"}
    assert {"when", "device", "versions"} <= report.keys()
    assert {figure["seconds"]["count"] for figure in report["figures"]} == {2}
    assert "times ClassMix" in result.output


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"named maks: choose of masks, loader"):
        CliRunner().invoke(app, ["bench", "maks"], catch_exceptions=False)


def test_all_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []
    seconds = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, Setting(SMALL.device, rounds=2))
    assert calls == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 2, "b": 2}


def test_a_spread_is_median_and_quartiles() -> None:
    spread = spread_of([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (spread.low, spread.median, spread.high, spread.count) == (2.0, 3.0, 4.0, 5)
    assert spread_of([7.0]).low == spread_of([7.0]).median == 7.0


@pytest.mark.chaos
def test_a_trial_that_dies_beside_others_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="one of 2 trials at once on cpu ended"):
        _share_until_killed(Shared("tiny", classmix_spec(TinyNetwork(width=4), 32, 64), 1), tmp_path)


def _share_until_killed(shared: Shared, folder: Path) -> None:
    options = RunOptions(data=str(folder / "data"), cache=str(folder / "cache"))
    open_data(shared.spec, options.data, folder / "cache")
    with trials_at_once(shared, options, SMALL, 2) as trials:
        assert seconds_together(trials) > 0
        for child in multiprocessing.active_children():
            child.kill()
        seconds_together(trials)


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio_of([1.0, 10.0, 4.0], [2.0, 5.0, 4.0]).median == 1.0


def test_the_peak_counts_what_is_gone_again_also_where_others_left_as_much() -> None:
    keep_freed_memory()
    left = [torch.ones(2**20) for _ in range(100)]
    del left
    grown = peak_memory(lambda: torch.ones(64 * 2**18).sum(), SMALL.device)
    assert 50 < grown < 200


def test_two_processes_hold_the_same_pages_of_a_cache(tmp_path: Path) -> None:
    def open_() -> CachedSplit:
        return open_cache(layout, "train", height=128, width=256, folder=tmp_path / "cache")

    layout = write_scenes(tmp_path, 4, 128, 256)
    images = open_()
    images.images(range(4))
    assert pages_shared(images) < 0.5
    told, telling = multiprocessing.Pipe()
    # A daemon: should this test fail, the interpreter ends it and does not wait for it for ever.
    other = multiprocessing.get_context("fork").Process(target=_read_until_told, args=(open_, telling), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in a process that forks: the child uses none
        other.start()
    assert told.recv() == "read"
    # Copies would share nothing. Not all pages count: the kernel maps some around those that were asked for.
    assert pages_shared(images) > 0.5
    told.send("enough")
    other.join()


def _read_until_told(open_: Callable[[], CachedSplit], connection: Connection) -> None:
    images = open_()
    images.images(range(4))
    connection.send("read")
    connection.recv()
    assert len(images) == 4


def test_a_figure_without_reference_is_shown_alone() -> None:
    (line,) = lines_of([Figure("loader", "open", spread_of([0.002, 0.004, 0.003]))])
    assert line.split() == ["open", "3", "ms", "(2.5–3.5)"]


def test_the_setting_takes_the_threads_and_the_device() -> None:
    setting = prepared(device="cpu", threads=2, rounds=3, size="small")
    assert (torch.get_num_threads(), setting.device.type, setting.rounds) == (2, "cpu", 3)
