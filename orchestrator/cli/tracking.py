"""The command `track`: bring MLflow to what the storage says, or compare the two."""

import time
from typing import Annotated

import typer

from experiments.table import Table
from orchestrator.cli.common import Chosen, TrackingUri, on_table
from trainer.storage import Storage


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(track)


@on_table
def track(
    chosen: Chosen,
    tracking_uri: TrackingUri = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: compare every number there with the storage.")
    ] = False,
) -> None:
    """Bring MLflow to what the storage says; any number of times, nothing comes twice.

    With --check: exit code 1 where MLflow lacks a number of a finished trial, has another, or one too many.
    """
    from orchestrator.mirror import default_tracking_uri, quiet, sync_once

    table = chosen.table
    uri = tracking_uri or default_tracking_uri(chosen.storage)
    quiet()
    if check:
        raise typer.Exit(check_tracked(table, chosen.storage, uri))
    while True:
        problem = sync_once(table, chosen.storage, uri)
        if problem is not None:
            print(problem)
        if not follow:
            raise typer.Exit(1 if problem else 0)
        time.sleep(15)


def check_tracked(table: Table, storage: Storage, tracking_uri: str) -> int:
    """Say where MLflow and the storage disagree on finished trials; the exit code."""
    from orchestrator.mirror import read_tracked
    from results.agreement import disagreements
    from results.frame import read_frames, results_frame

    ours, theirs = read_frames(storage, table).results, results_frame(read_tracked(table, tracking_uri))
    found = disagreements(ours, theirs)
    for line in found:
        print(line)
    print(f"{len(ours)} numbers in the storage, {len(theirs)} in MLflow at {tracking_uri}")
    if not found:
        print("every number is the same")
    return 1 if found else 0
