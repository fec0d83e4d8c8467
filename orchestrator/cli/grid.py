"""Commands that plan, run and watch a grid."""

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console

from experiments import TABLES
from experiments.table import Cell, Table, TableError, clipped
from orchestrator.agenda import Agenda
from orchestrator.cli.common import Chosen, Places, TrackingUri, on_table, that_compares, that_trains
from orchestrator.cli.grid_view import grid_view, summary
from orchestrator.cli.stale import Viewer, say_stale
from orchestrator.plan import PlannedCell
from orchestrator.resources import Placement, PlacementError, check_batches, refuse_unsaid_devices
from orchestrator.submit.ledger import described, submissions_of
from trainer.reading import (
    read_endings,
    read_failure,
    read_progress,
    trial_state,
)
from trainer.records import attempt_path, trial_path
from trainer.spec import RunOptions
from trainer.storage import Storage

Workers = Annotated[int, typer.Option(help="DDP ranks of one trial.")]
CpusPerWorker = Annotated[int, typer.Option(help="CPUs, and torch threads, of one rank.")]
GpusPerWorker = Annotated[
    float | None, typer.Option(help="GPUs of one rank; below 1: trials share one. Default: 1 on cuda.")
]

NodeLabels = Annotated[
    str, typer.Option(help="Only on nodes of Ray with these labels: gpu=h100 or ray.io/accelerator-type=H100,zone=a.")
]
WaitForNodes = Annotated[
    bool,
    typer.Option(
        "--wait-for-nodes",
        help="The cluster has Ray's autoscaler: ask it for the nodes that waiting trials need, and wait for them where "
        "there are too few.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(plan)
    app.command()(run)
    app.command("resume")(resume)  # it is called as what it wraps
    app.command()(status)
    app.command()(explain)
    app.command()(logs)


@on_table
@that_compares
def plan(
    chosen: Chosen,
    places: Places,
    devices: Annotated[str, typer.Option(help="Numbers of devices to give a finishing time for.")] = "1,8",
    workers: Workers = 1,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Train a few steps of each kind of trial on this machine first, and forecast by them where no cell of "
            "a row is done; and one, two and four trials at once, to say whether they should share a device.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what a run would train, how long that may take, and what to know before spending time on it."""
    from orchestrator.cli.plan_view import print_plan
    from orchestrator.cli.planning import fleet_of

    print_plan(chosen, places, fleet_of(devices, workers), probes=probe, as_json=as_json)


@on_table
@that_trains
def run(
    chosen: Chosen,
    options: RunOptions,
    tracking_uri: TrackingUri = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster; without it Ray starts on this machine.")] = None,
    workers: Workers = 1,
    cpus_per_worker: CpusPerWorker = 1,
    gpus_per_worker: GpusPerWorker = None,
    node_labels: NodeLabels = "",
    wait_for_nodes: WaitForNodes = False,
    max_concurrent: Annotated[int | None, typer.Option(help="At most so many trials at once.")] = None,
    max_gpu_hours: Annotated[
        float | None,
        typer.Option(
            help="Spend about so many device-hours in this run (ranks on CPUs count as devices): one seed of every "
            "cell before the second, and nothing is started that would not fit by its forecast."
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed cells again.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Train half-done cells from the start.")] = False,
    rerun_stale: Annotated[
        bool, typer.Option("--rerun-stale", help="Set stale results aside and train their cells again.")
    ] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Mirror the storage to MLflow.")] = True,
    submission: Annotated[str | None, typer.Option(hidden=True, help="The submitted job that this run is.")] = None,
) -> None:
    """Train what is missing of a table, here or on a cluster; run it again after anything at all to go on."""
    from orchestrator.cli.running import Request, run_table

    options = options.changed(storage=chosen.storage.url, threads=cpus_per_worker, submission=submission or "")
    table = chosen.table
    placement = Placement(workers, cpus_per_worker, gpus_per_worker, node_labels)
    agenda = Agenda((), max_concurrent, max_gpu_hours, wait_for_nodes)
    if wait_for_nodes:
        if address is None:
            raise PlacementError(
                "--wait-for-nodes: this machine gets no further nodes; give the --address of a cluster"
            )
        refuse_unsaid_devices(placement, options.device)
    check_batches((cell.spec for cell in table.cells()), workers)
    if submission is None:  # a job's files lie where nobody looks afterwards
        chosen.selection.remember(chosen.storage)
    request = Request(chosen, table, options, placement, address, agenda, retry_failed, restart, rerun_stale)
    raise typer.Exit(run_table(request, Console(), tracking_uri=tracking_uri, with_mlflow=mlflow))


@functools.wraps(run)
def resume(*words: Any, **options: Any) -> None:
    run(*words, **{**options, "retry_failed": True})


resume.__doc__ = "The same as run, failed cells included."


@on_table
@that_compares
def status(
    chosen: Chosen,
    places: Places,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it: rates, time left, devices, links. Ctrl-C leaves.")
    ] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show the state of every cell, and the reason of each that is failed or half done."""
    viewer = Viewer.of(chosen.storage, places)
    if watch:
        from orchestrator.cli.watching import refuse_json, watch_grid

        refuse_json(as_json)
        watch_grid(chosen, viewer, tracking_uri)
        return
    table = chosen.table
    planned = viewer.survey(table)
    if as_json:
        print(json.dumps([as_dict(item) for item in planned], indent=1))
        return
    console = Console()
    console.print(table.title, style="bold", markup=False, highlight=False)
    console.print(grid_view(table, planned))
    console.print(summary(planned))
    if hours := hours_taken(planned, viewer):
        console.print(hours, markup=False, highlight=False, soft_wrap=True)
    for item in planned:
        if line := reason(item, chosen.storage):
            console.print(f"{item.cell.name}  {line}", markup=False, highlight=False, soft_wrap=True)
    say_stale(planned, console)
    for record in submissions_of(chosen.storage, [item.cell.trial_id for item in planned]):
        console.print(described(record), markup=False, highlight=False, soft_wrap=True)


def hours_taken(planned: Sequence[PlannedCell], viewer: Viewer) -> str:
    """One line: device-hours that stand in results, that were lost, and that are open; empty where nothing ran."""
    from results.usage import hours_line, read_usage

    names = [item.cell.trial_id for item in planned]
    running = {item.cell.trial_id for item in planned if item.state == "running"}
    done = {name: seen.attempts for name, seen in viewer.glances.seen.items()}
    return hours_line(read_usage(viewer.storage, names, running=running, done=done))


def reason(item: PlannedCell, storage: Storage) -> str:
    """Why a cell is not done, or how far it is; empty where there is nothing to say."""
    if item.state == "running":
        attempts = storage.names(trial_path(item.cell.trial_id, "attempts"))
        progress = read_progress(storage, item.cell.trial_id, attempts[-1]) if attempts else None
        if progress is None:
            return f"running, held by {item.holder}"
        rate = f"{progress.steps_per_second:.2f} steps/s"
        return f"running at step {progress.step} of {progress.num_steps}, {rate}, held by {item.holder}"
    if item.trial.detail:
        return f"{item.state} after step {item.trial.step} of {item.cell.spec.num_steps}  {item.trial.detail}"
    return ""


def as_dict(item: PlannedCell) -> dict[str, Any]:
    """A cell's state for scripts."""
    return {
        "row": item.cell.row,
        "label_fraction": str(item.cell.label_fraction),
        "seed": item.cell.seed,
        "trial_id": item.cell.trial_id,
        "state": item.state,
        "step": item.trial.step,
        "num_steps": item.cell.spec.num_steps,
        "detail": item.trial.detail,
        "stale": item.stale,
        "driver": item.holder,
    }


CellWord = Annotated[str | None, typer.Argument(metavar="CELL", help="row@fraction, row@fraction#seed, or a trial id.")]


@on_table
@that_compares
def explain(chosen: Chosen, places: Places, cell: CellWord = None) -> None:
    """Say where a number comes from: trials, spec, digests, devices, attempts, and the command that makes it again."""
    from orchestrator.cli.explaining import explain_cells

    chosen, cell = pointed_at(chosen, cell)
    found = cells_named(chosen.table, cell)
    is_whole = cell.casefold() == found[0].name.casefold().rpartition("#")[0]
    explain_cells(Console(), chosen, found, places, is_whole=is_whole)


def pointed_at(chosen: Chosen, cell: str | None) -> tuple[Chosen, str]:
    """Table and cell that a command line names; a word alone is a cell of the last run, if it is no table's name.

    Raises: TableError where no cell is named.
    """
    word = chosen.selection.table
    if cell is not None:
        return chosen, cell
    if word is None or word in TABLES or word.endswith(".py") or ".py:" in word:
        raise TableError("name a CELL, such as ComplexMix@1/4#0")
    return replace(chosen, selection=replace(chosen.selection, table=None)), word


def cells_named(table: Table, word: str) -> list[Cell]:
    """The cells a word names. Raises: TableError saying how cells are named."""
    wanted = word.casefold()
    found = [
        cell
        for cell in table.cells()
        if wanted in (cell.name.casefold(), cell.name.casefold().rpartition("#")[0], cell.trial_id)
    ]
    if not found:
        example = table.cells()[0]
        raise TableError(
            f"table {table.name} has no cell {clipped(word)!r}: name one as {example.name} or {example.row}@"
            f"{example.label_fraction} "
            f"(all seeds), or by its trial id; rows: {', '.join(row.label for row in table.rows)}"
        )
    return found


@on_table
def logs(
    chosen: Chosen,
    cell: CellWord = None,
    job: Annotated[bool, typer.Option("--job", help="What the job printed that was submitted last.")] = False,
) -> None:
    """Print the logs of a cell's attempts, oldest first, and why it failed if it did; or those of a submitted job."""
    place = chosen.storage
    if job:
        from orchestrator.cli.submitting import print_job_logs

        print_job_logs(chosen.table, place)
        return
    try:
        chosen, cell = pointed_at(chosen, cell)
    except TableError as error:
        raise TableError(f"{error}, or give --job for the log of the submitted job") from None
    for found in cells_named(chosen.table, cell):
        print(f"# {found.name} {found.trial_id}")
        for attempt in place.names(trial_path(found.trial_id, "attempts")):
            print(f"## attempt {attempt}")
            path = attempt_path(found.trial_id, attempt, "log.txt")
            print(place.read(path).decode(errors="replace") if place.exists(path) else "(no log)")
            for ending in read_endings(place, found.trial_id, attempt):
                print(f"## rank {ending.rank} ended after step {ending.step}: {ending.kind} {ending.message}".rstrip())
                print(ending.trace_tail, end="")
        failure = read_failure(place, found.trial_id)
        if failure is not None and trial_state(place, found.trial_id).kind == "failed":
            print(f"## failed: {failure.reason}: {failure.message}\n{failure.trace_tail}")
