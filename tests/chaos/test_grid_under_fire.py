"""A real grid on a real Ray, killed in all its parts: every cell ends with the bits of an undisturbed run."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from experiments.table import Table
from tests.chaos.grid import (
    BARRIER,
    TRIAL_PROCESS,
    WORKER,
    Grid,
    environment,
    processes_below,
    wait_until,
)
from tests.orchestrator.conftest import small_table
from trainer.reading import (
    find_commits,
    read_progress,
    trial_state,
)
from trainer.records import trial_path
from trainer.spec import RunOptions
from trainer.storage import Storage

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
SOURCE = """
from dataclasses import replace
from tests.orchestrator.conftest import small_table
GRID = replace(small_table(num_steps={steps}), seeds={seeds})
"""
CHECKPOINT_EVERY = 40


def make_grid(
    tmp_path: Path, places: dict[str, str], *more: str, steps: int = 1500, seeds: tuple[int, ...] = (0, 1)
) -> Grid:
    (tmp_path / "grid.py").write_text(SOURCE.format(steps=steps, seeds=seeds))
    words = [str(tmp_path / "grid.py"), "--data", places["data"], "--cache", places["cache"], "--no-mlflow"]
    words += ["--checkpoint-every", str(CHECKPOINT_EVERY), "--log-every", "10", "--progress-seconds", "0", *more]
    table: Table = replace(small_table(num_steps=steps), seeds=seeds)
    return Grid(table, words, Storage(str(tmp_path / "runs")))


def undisturbed(tmp_path: Path, places: dict[str, str]) -> RunOptions:
    cadence = {"checkpoint_every": CHECKPOINT_EVERY, "log_every": 10}
    return RunOptions(storage=str(tmp_path / "undisturbed"), **places, **cadence)


def assert_all_is_well(grid: Grid, options: RunOptions, *, num_resumed: int = 2) -> None:
    grid.assert_nothing_began_anew()
    grid.assert_equal_to_undisturbed(options)
    resumed = [step for steps in grid.resumed_steps().values() for step in steps[1:]]
    assert sum(step > 0 for step in resumed) >= num_resumed, "no kill fell in the midst of training"
    reached = [(seen, safe) for lost in grid.lost.values() for seen, safe in lost]
    assert all(seen - safe <= CHECKPOINT_EVERY for seen, safe in reached)
    assert sum(max(0, seen - safe) for seen, safe in reached) > 0


def test_a_grid_outlives_the_kill_of_every_process_of_a_trial_and_of_its_driver(
    tmp_path: Path, places: dict[str, str]
) -> None:
    grid = make_grid(tmp_path, places)
    with grid.running() as driver:
        for title in (WORKER, TRIAL_PROCESS, BARRIER, WORKER):
            grid.kill_one(driver, title)
            time.sleep(5.0)
        grid.wait_for_unsafe_steps(driver)
        grid.kill(driver)
    with grid.running() as driver:
        grid.wait_for_unsafe_steps(driver)
        grid.kill(driver)
    with grid.running() as driver:
        assert driver.wait(timeout=600) == 0, grid.log()
    assert_all_is_well(grid, undisturbed(tmp_path, places))


def test_ctrl_c_lets_trials_checkpoint_and_leaves_no_process(tmp_path: Path, places: dict[str, str]) -> None:
    grid = make_grid(tmp_path, places, steps=20000)
    with grid.running() as driver:
        grid.wait_for_unsafe_steps(driver)
        below = driver.children(recursive=True)
        driver.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert driver.wait(timeout=120) == 130, grid.log()
        assert time.monotonic() - started < 60, "running trials were to stop within the grace"
        _, alive = psutil.wait_procs(below, timeout=30)
        assert alive == []
    stopped = [cell for cell in grid.table.cells() if find_commits(grid.storage, cell.trial_id)]
    assert stopped
    for cell in stopped:
        state = trial_state(grid.storage, cell.trial_id)
        assert (state.kind, state.detail) == ("partial", "asked to stop")
        (attempt,) = grid.storage.names(trial_path(cell.trial_id, "attempts"))
        assert read_progress(grid.storage, cell.trial_id, attempt).step == state.step, "the last step was made safe"


# --- nodes --------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_node(*words: str) -> Iterator[psutil.Popen]:
    """One node of a cluster on this machine; gone at the end."""
    command = [str(Path(sys.executable).parent / "ray"), "start", *words, "--block", "--disable-usage-stats"]
    node = psutil.Popen(
        command, env=environment(RAY_AUTH_MODE="disabled"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield node
    finally:
        below = []
        with suppress(psutil.Error):  # a node without its raylet ends by itself
            below = node.children(recursive=True)
            node.terminate()
        psutil.wait_procs([node, *below], timeout=20)
        for process in below:
            with suppress(psutil.Error):
                process.kill()


def test_a_grid_outlives_the_loss_of_a_node_and_uses_the_one_that_comes_instead(
    tmp_path: Path, places: dict[str, str]
) -> None:
    port = free_port()
    head = ("--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false")
    member = (f"--address=127.0.0.1:{port}", "--num-cpus=1")
    grid = make_grid(tmp_path, places, "--address", f"127.0.0.1:{port}")
    grid.environment = environment(RAY_AUTH_MODE="disabled")
    with ray_node(*head), ray_node(*member) as second:
        wait_until(lambda: bool(processes_below(second, "raylet/raylet")), 60, "the second node has a raylet")
        time.sleep(5.0)
        with grid.running() as driver:
            wait_until(lambda: bool(processes_below(second, WORKER)), 240, "a trial runs on the second node")
            grid.wait_for_unsafe_steps(driver)
            workers = processes_below(second, WORKER)
            grid.kill(processes_below(second, "raylet/raylet")[0])
            psutil.wait_procs(workers, timeout=60)
            with ray_node(*member):
                assert driver.wait(timeout=900) == 0, grid.log()
    assert_all_is_well(grid, undisturbed(tmp_path, places), num_resumed=1)


def test_a_soak_with_a_trial_process_killed_each_half_minute_and_the_driver_each_three(
    tmp_path: Path, places: dict[str, str]
) -> None:
    """Twelve cells of trivial training; ends when all are done, which takes a quarter of an hour on two cores."""
    grid = make_grid(tmp_path, places, steps=1200, seeds=(0, 1, 2, 3, 4, 5))
    num_drivers, is_done = 0, False
    while not is_done:
        num_drivers += 1
        assert num_drivers <= 12, grid.log()
        with grid.running() as driver:
            ends = time.monotonic() + 180
            next_kill = time.monotonic() + 30
            while time.monotonic() < ends and driver.poll() is None:
                if time.monotonic() > next_kill and (found := processes_below(driver, TRIAL_PROCESS)):
                    grid.kill(found[num_drivers % len(found)])
                    next_kill = time.monotonic() + 30
                time.sleep(0.2)
            is_done = driver.poll() == 0
            if driver.poll() is None:
                grid.kill(driver)
    assert num_drivers > 1
    assert_all_is_well(grid, undisturbed(tmp_path, places))
