"""The command `run`: prepare data, train on Ray in sight, mirror to MLflow, print, export and report the table."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.text import Text

from experiments.table import Cell, Table
from orchestrator.agenda import Agenda
from orchestrator.cli.budget import say_budget, say_narrowing, with_lengths
from orchestrator.cli.common import Chosen, Places, is_debugging, outputs_folder
from orchestrator.cli.output import computed, export
from orchestrator.cli.planning import sentence
from orchestrator.cli.stale import CURE, judge_here
from orchestrator.lint import findings
from orchestrator.plan import PlannedCell, survey, to_run
from orchestrator.pruning import forget
from orchestrator.resources import Placement
from orchestrator.submit.tracker import problem_with
from trainer.records import trial_path
from trainer.spec import RunOptions
from trainer.storage import Storage

if TYPE_CHECKING:
    from orchestrator.driver import GridOutcome
    from orchestrator.progress import GridProgress

_LINE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a run was asked to do; `table` is the chosen one, resolved once."""

    chosen: Chosen
    table: Table
    options: RunOptions
    placement: Placement
    address: str | None
    agenda: Agenda
    retry_failed: bool
    restart: bool
    rerun_stale: bool = False


def run_table(request: Request, console: Console, *, tracking_uri: str | None, with_mlflow: bool) -> int:
    """Run what is missing; return the exit code: 0 all done, 1 some failed or partial, 130 interrupted."""
    storage = Storage(request.options.storage)
    planned = survey(request.table, storage)
    if request.restart:
        forget_partial(planned, storage)
        planned = survey(request.table, storage)
    if request.rerun_stale and set_stale_aside(request, storage, console):
        planned = survey(request.table, storage)
    say_who_holds(planned, console)
    cells = to_run(planned, retry_failed=request.retry_failed)
    for cell in cells:
        storage.remove(trial_path(cell.trial_id, "failure.json"))
    was_interrupted = False
    if cells:
        for finding in findings(request.table, data=request.options.data, weights=request.options.weights):
            if finding.level != "told":
                text = sentence(finding, len(request.table.included_rows))
                console.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True, highlight=False)
        outcome = train(request, cells, planned, console, tracking_uri, with_mlflow)
        was_interrupted = outcome.was_interrupted
        say_problems(outcome, request.table, console)
        say_budget(outcome, request.agenda, {item.cell.trial_id: item.cell.name for item in planned}, console)
        planned = survey(request.table, storage)
    finish(request, storage, console, tracking_uri, with_mlflow=with_mlflow, has_trained=bool(cells))
    return exit_code(planned, console, was_interrupted=was_interrupted)


def forget_partial(planned: Sequence[PlannedCell], storage: Storage) -> None:
    """Remove what half-done trials left, so that they start anew."""
    for item in planned:
        if item.state == "partial":
            forget(storage, item.cell.trial_id)


def set_stale_aside(request: Request, storage: Storage, console: Console) -> bool:
    """Set stale results aside; say which, and whether there were any. Images are prepared first, to be looked at."""
    from orchestrator.stale_results import supersede

    prepare_data(request.table.cells(), request.options, console)
    planned = survey(request.table, storage, judge_here(storage, Places.of(request.options)))
    attempts = {item.cell.trial_id: item.attempt for item in planned if item.stale and item.attempt is not None}
    done = supersede(storage, request.table.name, attempts)
    for item in planned:
        if item.cell.trial_id in done:
            said = f"{item.cell.name} is trained again: {item.stale}; its old result stays in superseded"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
    return bool(done)


def say_who_holds(planned: Sequence[PlannedCell], console: Console) -> None:
    """Name the cells that another live driver trains."""
    held = [item for item in planned if item.state == "running"]
    if held:
        drivers = ", ".join(sorted({str(item.holder) for item in held}))
        console.print(escape(f"{len(held)} cells are left to the driver that trains them now ({drivers})"))


def train(
    request: Request,
    cells: Sequence[Cell],
    planned: Sequence[PlannedCell],
    console: Console,
    tracking_uri: str | None,
    with_mlflow: bool,
) -> "GridOutcome":
    """Prepare the data once, then train the cells on Ray while MLflow follows."""
    if with_mlflow:
        say_tracker_problem(tracking_uri, console)
    prepare_data(cells, request.options, console)
    from orchestrator.driver import run_cells

    storage = Storage(request.options.storage)
    following: AbstractContextManager[None] = nullcontext()
    if with_mlflow:
        from orchestrator.mirror import default_tracking_uri, mirroring, quiet

        quiet()
        following = mirroring(request.table, storage, tracking_uri or default_tracking_uri(storage))
    with following, _display(console) as show:
        return run_cells(
            cells,
            request.options,
            request.placement,
            table_name=request.table.name,
            agenda=with_lengths(request.agenda, planned, cells, storage, request.options.data),
            address=request.address,
            while_running=show,
        )


def say_tracker_problem(tracking_uri: str | None, console: Console) -> None:
    """Say why an MLflow server cannot be used from here, and the cure; nothing waits for it."""
    problem = problem_with(tracking_uri or "")
    if problem:
        note = f"{problem}. Training does not wait for it: `mixgrid track` brings MLflow everything later"
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True, highlight=False)


def prepare_data(cells: Sequence[Cell], options: RunOptions, console: Console) -> None:
    """Build or copy the caches that the cells need, so that trials find them. Raises: DataError naming bad files."""
    from trainer.data.cache import cache_folder
    from trainer.data.opening import open_splits, wanted_splits, with_splits_of_their_own

    for spec in with_splits_of_their_own(cell.spec for cell in cells):
        started = time.monotonic()
        both = open_splits(spec, options.data, cache_folder(options.cache))
        for wanted, images in zip(wanted_splits(spec), both, strict=True):
            if images.path.stat().st_mtime > time.time() - (time.monotonic() - started) - 1:
                console.print(escape(f"prepared {len(images)} {wanted.split} images of {wanted.name} in {images.path}"))


def finish(
    request: Request,
    storage: Storage,
    console: Console,
    tracking_uri: str | None,
    *,
    with_mlflow: bool,
    has_trained: bool,
) -> None:
    """Print the table, export it, and say where everything is."""
    from orchestrator.cli.table_view import print_computed

    table, options = request.table, request.options
    if with_mlflow and has_trained:
        from orchestrator.mirror import default_tracking_uri, sync_once

        problem = sync_once(table, storage, tracking_uri or default_tracking_uri(storage))
        if problem is not None:
            console.print(f"[yellow]note:[/] {escape(problem)}", soft_wrap=True)
    result = computed(table, storage, places=Places.of(options))
    print_computed(result, console)
    if any(cell.stale for cell in result.cells):
        console.print(f"stale: {CURE}", markup=False, highlight=False, soft_wrap=True)
    if request.agenda.max_device_hours is not None:
        say_narrowing(result, table.seeds, console)
    written = export(result, outputs_folder(storage, table))
    written["preview"] = preview_path(table, storage, options, renew=has_trained)
    for title, path in written.items():
        console.print(f"{title:<12} {path}", highlight=False, soft_wrap=True)
    uri = tracking_uri
    if uri is None and storage.is_local:
        uri = f"sqlite:///{storage.locate('mlflow.db')}"
    if uri is not None and not uri.startswith("http"):
        console.print(
            f"{'MLflow':<12} mlflow ui --backend-store-uri {uri} (then http://127.0.0.1:5000)",
            highlight=False,
            soft_wrap=True,
        )
    say_report(request, storage, console)


def say_report(request: Request, storage: Storage, console: Console) -> None:
    """Draw the table's report and say where it is; a note where it cannot be drawn, since the numbers are safe."""
    from orchestrator.cli.reporting import write_report

    try:
        path = write_report(request.chosen, Places.of(request.options), outputs_folder(storage, request.table))
        console.print(f"{'report':<12} {path}", highlight=False, markup=False, soft_wrap=True)
    except Exception as error:
        if is_debugging():
            raise
        note = f"the report was not drawn ({type(error).__name__}: {error}); `mixgrid report` tries again"
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True, highlight=False)


def preview_path(table: Table, storage: Storage, options: RunOptions, *, renew: bool) -> Path:
    """The picture of the table's masks, drawn after training or where it is missing."""
    path = outputs_folder(storage, table) / "masks.png"
    if renew or not path.exists():
        from orchestrator.previewing import masks_png

        content, _ = masks_png(table, storage, data=options.data, cache=options.cache, step=0)
        path.write_bytes(content)
    return path


def say_problems(outcome: "GridOutcome", table: Table, console: Console) -> None:
    """Name every trial that did not end well, with its reason."""
    names = {cell.trial_id: cell.name for cell in table.cells()}
    for trial_id, message in outcome.problems.items():
        console.print(f"[red]{escape(names[trial_id])}[/] {escape(message)}", soft_wrap=True, highlight=False)


def exit_code(planned: Sequence[PlannedCell], console: Console, *, was_interrupted: bool) -> int:
    """0 where every cell is done, 130 after an interruption, else 1 with the cells that are not."""
    open_cells = [item for item in planned if item.state != "done"]
    if not open_cells:
        return 0
    for item in open_cells:
        if item.state == "failed":
            console.print(f"[red]failed[/] {escape(item.cell.name)}: {escape(item.trial.detail)}", soft_wrap=True)
    counts = f"{len(open_cells)} of {len(planned)} cells are not done"
    console.print(
        f"{counts}; `mixgrid status` says why, `mixgrid run` goes on, `mixgrid resume` also tries failed ones"
    )
    return 130 if was_interrupted else 1


class _display:  # noqa: N801  (used as a with-statement's verb)
    """Progress on the console: live on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
        self._last_line = 0.0
        self._said_over = False
        self._said_note = ""

    def __enter__(self) -> Callable[["GridProgress"], None]:
        if self._live is not None:
            self._live.start()
        return self._show

    def __exit__(self, *_error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _show(self, progress: "GridProgress") -> None:
        if self._live is not None:
            self._live.update(progress_view(progress))
            return
        is_news = progress.is_over or progress.note != self._said_note
        if not self._said_over and (time.monotonic() - self._last_line > _LINE_SECONDS or is_news):
            self._last_line = time.monotonic()
            self._said_over, self._said_note = progress.is_over, progress.note
            print(progress_line(progress), file=sys.stdout, flush=True)


def progress_line(progress: "GridProgress") -> str:
    """Cells by phase, the summed step rate and the time left."""
    rate = sum(p.steps_per_second for p in progress.trials.values() if p.phase == "training")
    eta = progress.eta_seconds()
    left = "" if eta is None else f", about {duration(eta)} left"
    note = f"; {progress.note}" if progress.note else ""
    return (
        f"{progress.count('done')} done, {progress.count('starting', 'training')} running, "
        f"{progress.count('failed')} failed, {progress.count('waiting', 'stopped')} waiting; "
        f"{rate:.1f} steps/s{left}{note}"
    )


def progress_view(progress: "GridProgress") -> Group:
    """The line, and a bar for each trial that runs."""
    lines: list[Text | ProgressBar] = [Text(progress_line(progress))]
    for trial in progress.trials.values():
        if trial.phase in ("starting", "training"):
            lines.append(Text(f"  {trial.name}  {trial.phase} {trial.step}/{trial.num_steps}"))
            lines.append(ProgressBar(total=max(trial.num_steps, 1), completed=trial.step, width=60))
    return Group(*lines)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
