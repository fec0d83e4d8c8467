"""The command `bundle`: a table with all it stands on, as one archive."""

import uuid
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Chosen, Places, on_table, outputs_folder, that_compares
from orchestrator.cli.stale import judge_here
from orchestrator.plan import survey


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(bundle)


@on_table
@that_compares
def bundle(
    chosen: Chosen,
    places: Places,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="The .zip to write.")] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Withhold hosts, folders, persons and traces, for a blind review.")
    ] = False,
) -> None:
    """Put a table, its records, versions and the code that redraws it into one archive, to publish beside a paper."""
    from orchestrator.cli.output import FILES
    from results.bundle import bundle as gather

    table, storage = chosen.table, chosen.storage
    planned = survey(table, storage, judge_here(storage, places))
    found = gather(
        storage,
        table,
        FILES,
        running=[item.cell.trial_id for item in planned if item.state == "running"],
        stale={item.cell.trial_id: item.stale for item in planned if item.stale},
        is_anonymous=anonymous,
    )
    path = out or outputs_folder(storage, table) / f"{table.name}.zip"
    write_whole(path, found.packed())
    print(f"{path}: {len(found.files)} files, {found.num_done} of {found.num_trials} trials with a result")
    if num_stale := sum(bool(item.stale) for item in planned):
        print(f"note: {num_stale} cells are stale, and marked so (`mixgrid status` says why)")
    for line in found.reveals:
        print(f"note: {line} (--anonymous withholds it)")
    print(f"to draw it again: unzip it, then in the folder {found.name}: python -m results.redraw")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
