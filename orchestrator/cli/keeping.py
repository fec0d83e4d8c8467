"""Commands that stop, check and clean up: cancel, verify, prune, drill."""

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orchestrator.cli.common import (
    CacheFolder,
    Chosen,
    DataFolder,
    Places,
    StorageUrl,
    on_table,
    outputs_folder,
    that_compares,
)
from trainer.records import DriverRecord
from trainer.storage import Storage

if TYPE_CHECKING:
    from results.compute import ComputedTable


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(cancel)
    app.command()(verify)
    app.command()(prune)
    app.command()(drill)


@on_table
def cancel(
    chosen: Chosen,
    now: Annotated[bool, typer.Option("--now", help="End drivers of this host at once, without a checkpoint.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for them to end.")] = 90.0,
) -> None:
    """Ask whoever trains cells of a table to checkpoint and stop; what is safe stays, `run` goes on from it.

    Submitted jobs are taken out of their queue, or end once their trials have stopped.
    """
    from orchestrator.cli.submitting import SubmittedJobs
    from orchestrator.lease import ask_to_stop, is_process_alive, live_drivers, this_host

    trial_ids = {cell.trial_id for cell in chosen.table.cells()}
    deadline = time.monotonic() + wait
    jobs = SubmittedJobs(chosen.storage, trial_ids)
    jobs.stop(only_queued=not now)
    asked = ask_to_stop(chosen.storage, trial_ids)
    if not asked and not jobs:
        others = sorted({record.table for record in live_drivers(chosen.storage)})
        hint = f"; {', '.join(others)} is trained here with other settings: leave TABLE out" if others else ""
        print(f"nobody trains cells of this table{hint}")
        return
    for record in asked:
        held = len(set(record.trial_ids) & trial_ids)
        print(f"asked {record.driver} to stop (process {record.pid} on {_host(record)}, {held} of these cells)")
        if now and record.host == this_host() and is_process_alive(record.pid, record.process_started):
            os.kill(record.pid, signal.SIGKILL)
    names = {record.driver for record in asked}
    while names & {record.driver for record in live_drivers(chosen.storage)}:
        if time.monotonic() > deadline:
            print(f"still at work after {wait:g} s: look again with `mixgrid status`, or use --now on their host")
            raise typer.Exit(1)
        time.sleep(0.5)
    if not jobs.have_ended_by(deadline):
        print(f"not every job has ended after {wait:g} s: look again with `mixgrid logs --job`, or use --now")
        raise typer.Exit(1)
    print("all have ended; `mixgrid run` goes on" if not jobs else "all have ended; `mixgrid submit` goes on")


def _host(record: DriverRecord) -> str:
    return record.host.partition("/")[0]


@on_table
@that_compares
def verify(chosen: Chosen, places: Places) -> None:
    """Derive every number of a table again from its records; exit code 1 if one does not hold."""
    from orchestrator.cli.output import computed
    from orchestrator.here import Here
    from results.recount import doubts_of_table
    from results.tables import format_table
    from results.verify import verify as check

    table, storage = chosen.table, chosen.storage
    names = {cell.trial_id: cell.name for cell in table.cells()}
    found = check(storage, table, here=Here(places.data, places.cache, places.weights))
    for finding in found.findings:
        print(f"{finding.kind}: {names[finding.trial_id]} ({finding.trial_id}): {finding.message}")
    printed = computed(table, storage, places=places)
    drifts = list(doubts_of_table(storage, table, printed, format_table(printed, "csv")))
    unmarked = computed(table, storage, with_stale=False)  # written before something changed, a file is no drift
    changed = changed_files(outputs_folder(storage, table), printed, unmarked)
    drifts += [f"{path} is not what the records give now: run `mixgrid run` again" for path in changed]
    for text in drifts:
        print(f"drift: {text}")
    print(
        f"{found.num_done} cells done, {found.num_evaluations} evaluations derived again from their confusion "
        f"matrices and compared with their history; {found.num_open} cells not done"
    )
    if found.has_drift or drifts:
        raise typer.Exit(1)
    print("every number holds, and so do the means and standard deviations of the table")


def changed_files(folder: Path, *versions: "ComputedTable") -> list[Path]:
    """Exported files whose bytes are in no format what one of these versions of their table gives."""
    from orchestrator.cli.output import FILES
    from results.tables import format_table

    changed = []
    for form, name in FILES.items():
        with suppress(FileNotFoundError):
            content = (folder / name).read_bytes()
            if all(content != format_table(version, form).encode() for version in versions):
                changed.append(folder / name)
    return changed


def prune(
    storage: StorageUrl = "runs",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what no number rests on: overtaken checkpoints, records nobody counts, drafts, dead drivers."""
    from orchestrator.pruning import prune as clean

    counts: Counter[str] = Counter()
    for waste in clean(Storage(storage), dry_run=dry_run):
        counts[waste.kind] += 1
        print(waste.path)
    what = ", ".join(f"{count} x {kind}" for kind, count in sorted(counts.items())) or "nothing"
    print(f"{'would remove' if dry_run else 'removed'}: {what}")


@on_table
def drill(
    chosen: Chosen,
    data: DataFolder = "data",
    cache: CacheFolder = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="How often each of the three processes is killed.")] = 1,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Where the report goes.")] = None,
) -> None:
    """Prove that nothing is lost: train a cell in peace, then again under SIGKILL, and compare every bit.

    The cell is the last of the chosen part of the table. All of it lies in `drill`, beside the real trials.
    """
    from orchestrator.drill import Drill, report

    cell = chosen.table.cells()[-1]
    place = Path(chosen.storage.locate("drill")) if chosen.storage.is_local else Path("drill").absolute()
    words = [*chosen.selection.settled(chosen.storage).words_for(cell), "--data", data]
    words += ["--cache", cache] if cache else []
    words += ["--checkpoint-every", str(checkpoint_every), "--log-every", str(max(1, checkpoint_every // 4))]
    words += ["--progress-seconds", "0", "--no-mlflow"]
    console = Console(highlight=False)
    outcome = Drill(cell, tuple(words), place, checkpoint_every).run(
        rounds, say=lambda text: console.print(text, soft_wrap=True, markup=False)
    )
    path = out or place / "report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(outcome))
    console.print(f"{'passed' if outcome.has_passed else 'FAILED'}: {path}", soft_wrap=True)
    raise typer.Exit(0 if outcome.has_passed else 1)
