"""What a run's driver costs beside Tune alone: the same trials that do nothing, through both, one after the other.

`python -m tests.benchmarks.driver_overhead [--trials 400] [--tracker] [--profile]` sends trials of Table 1 with many
seeds through the real lease, queue, turnstile and watcher, their training replaced by a report; then as many through a
plain `tune.Tuner`. With `--tracker` every trial leaves the records of a finished one, which the mirror sends to MLflow.
"""

import argparse
import cProfile
import pstats
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from experiments.table import Cell, Table
from orchestrator.agenda import Agenda
from orchestrator.resources import DRIVER_CPUS, Placement
from tests.many_trials import large_table, put_trial
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage

# What Tune calls of ours, and what the progress thread calls.
OURS = ("suggest", "on_trial_complete", "on_trial_start", "on_trial_result", "on_trial_error")
AT_ONCE = 2


def do_nothing(config: dict[str, Any]) -> None:
    """A trial that ends as it begins."""
    from ray import tune

    tune.report({"outcome": "done", "message": ""})


def leave_records(config: dict[str, Any]) -> None:
    """A trial that leaves what a finished one leaves."""
    from ray import tune

    order = config["order"]
    storage = Storage(RunOptions.model_validate_json(order["options"]).storage)
    spec = TrialSpec.model_validate_json(order["spec"])
    put_trial(storage, spec, np.random.default_rng(spec.seed))
    tune.report({"outcome": "done", "message": ""})


def through_driver(table: Table, cells: list[Cell], folder: Path, *, with_tracker: bool) -> float:
    """Seconds of a run of mixgrid, start and end of Ray left out."""
    from orchestrator import driver
    from orchestrator.mirror import mirroring, quiet, sync_once

    storage = Storage(str(folder / "storage"))
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    quiet()
    driver.train_cell = leave_records if with_tracker else do_nothing  # type: ignore[assignment]
    following: AbstractContextManager[None] = mirroring(table, storage, uri) if with_tracker else nullcontext()
    options = RunOptions(storage=str(folder / "storage"), device="cpu")
    seconds = _Seconds()
    with following, seconds.of(driver, "_tune"):
        outcome = driver.run_cells(
            cells, options, Placement(), table_name=table.name, agenda=Agenda(max_concurrent=AT_ONCE)
        )
    assert not outcome.problems, outcome.problems
    if with_tracker:
        started = time.monotonic()
        assert sync_once(table, storage, uri) is None
        print(f"the tracker had {time.monotonic() - started:.1f} s of work left when the run was over")
    return seconds.value


class _Seconds:
    """Seconds that a function of a module takes."""

    value = 0.0

    def of(self, module: Any, name: str) -> AbstractContextManager[None]:
        from contextlib import contextmanager

        @contextmanager
        def timing() -> Any:
            plain = getattr(module, name)

            def timed(*args: Any, **kwargs: Any) -> Any:
                started = time.monotonic()
                try:
                    return plain(*args, **kwargs)
                finally:
                    self.value = time.monotonic() - started

            setattr(module, name, timed)
            try:
                yield
            finally:
                setattr(module, name, plain)

        return timing()


def through_tune(number: int, folder: Path) -> float:
    """Seconds of as many trials through a plain Tuner with the same resources and reuse of its processes."""
    from ray import tune

    from orchestrator import driver

    with driver._ray(None):
        tuner = tune.Tuner(
            tune.with_resources(do_nothing, {"CPU": DRIVER_CPUS}),
            param_space={"number": tune.grid_search(list(range(number)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=AT_ONCE, reuse_actors=True),
            run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=0),
        )
        started = time.monotonic()
        tuner.fit()
        return time.monotonic() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--tracker", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--alone", action="store_true", help="leave Tune alone out")
    words = parser.parse_args()
    table = large_table(num_seeds=-(-words.trials // 29))
    cells = list(table.cells())[: words.trials]
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory(prefix="mixgrid-overhead-") as folder:
        if words.profile:
            profile.enable()
        ours = through_driver(table, cells, Path(folder), with_tracker=words.tracker)
        profile.disable()
        print(f"mixgrid's driver: {len(cells)} trials in {ours:.1f} s, {ours / len(cells):.3f} s a trial")
        if not words.alone:
            plain = through_tune(len(cells), Path(folder))
            print(f"Tune alone:       {len(cells)} trials in {plain:.1f} s, {plain / len(cells):.3f} s a trial")
    if words.profile:
        statistics = pstats.Stats(profile)
        statistics.sort_stats("cumulative").print_stats(r"orchestrator|" + "|".join(OURS), 25)
        statistics.sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
