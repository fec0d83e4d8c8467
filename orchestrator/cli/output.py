"""The command that prints tables, and their files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from experiments.table import Table
from orchestrator.cli.common import Chosen, Places, on_table, that_compares
from orchestrator.cli.stale import Viewer
from orchestrator.plan import survey
from trainer.storage import Storage

if TYPE_CHECKING:
    from results.compute import ComputedTable
    from results.frame import Frames

FILES = {
    "csv": "table.csv",
    "csv-long": "table-long.csv",
    "html": "table.html",
    "latex": "table.tex",
    "markdown": "table.md",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("table")(table_command)


@on_table
@that_compares
def table_command(
    chosen: Chosen,
    places: Places,
    form: Annotated[
        Literal["text", "csv", "csv-long", "html", "latex", "latex-plain", "markdown", "parquet"] | None,
        typer.Option(
            "--format",
            help="Default: what the file of -o is named for, else text. csv has a line per row, csv-long one per trial "
            "and network; latex is aligned by siunitx, latex-plain needs booktabs alone; parquet is every evaluation "
            "of every trial, nothing chosen.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="A file instead of the screen.")] = None,
    policy: Annotated[
        Literal["last", "best"] | None,
        typer.Option(help="Which evaluation counts, in every row; default: as table and rows say."),
    ] = None,
    network: Annotated[
        Literal["student", "teacher"] | None,
        typer.Option(help="Which network counts, in every row; default: as table and rows say."),
    ] = None,
    differences: Annotated[bool, typer.Option(help="Print the difference to the reference row below each row.")] = True,
    published: Annotated[
        bool, typer.Option(help="Print the published value and the verdict on ours below each row.")
    ] = True,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="LaTeX as a document that compiles as it stands.")
    ] = False,
) -> None:
    """Print the table: mean ± std mIoU over seeds, marked where it is incomplete or stale."""
    from orchestrator.cli.table_view import show
    from results.tables import Layout, format_table, write_table

    wanted = form or named_format(out)
    if wanted == "parquet":
        print(write_results(chosen.table, chosen.storage, out))
        return
    layout = Layout(differences=differences, published=published, standalone=standalone)
    result = computed(chosen.table, chosen.storage, policy=policy, network=network, places=places)
    if wanted == "text":
        refuse_standalone(standalone)
        show(result, layout, out)
        return
    text = format_table(result, wanted, layout)
    if out is None:
        print(text, end="")
    else:
        write_table(text, out)
        print(out)


def named_format(out: Path | None) -> str:
    """The format that a file is named for; text where its ending says nothing."""
    from results.tables import SUFFIXES

    if out is not None and out.suffix == ".parquet":
        return "parquet"
    return SUFFIXES.get(out.suffix, "text") if out is not None else "text"


def write_results(table: Table, storage: Storage, out: Path | None) -> Path:
    """Write every evaluation of every done trial as a Parquet file. Raises: ValueError where no file is named."""
    if out is None:
        raise ValueError("--format parquet is no text for a screen: name a file, as in -o results.parquet")
    from orchestrator.cli.bundling import write_whole
    from results.frame import read_frames
    from results.parquet import parquet_bytes

    write_whole(out, parquet_bytes(read_frames(storage, table).results, table=table.name))
    return out


def refuse_standalone(is_wanted: bool) -> None:
    """Raises: ValueError where text is asked to be a document."""
    if is_wanted:
        raise ValueError("--standalone is for LaTeX: add --format latex or --format latex-plain")


def computed(  # type: ignore[no-untyped-def]
    table: Table,
    storage: Storage,
    *,
    policy: str | None = None,
    network: str | None = None,
    places: Places | None = None,
    with_stale: bool = True,
):
    """The table as results computes it; what is stale is so beside what lies in `places`, and marked unless told."""
    from results.aggregate import selections_of
    from results.compute import compute_table

    frames = frames_of(table, storage, places=places, with_stale=with_stale)
    choice, by_row = selections_of(table, policy=policy, network=network)  # type: ignore[arg-type]
    return compute_table(frames, table, choice, by_row=by_row)


def frames_of(table: Table, storage: Storage, *, places: Places | None = None, with_stale: bool = True) -> "Frames":
    """What storage says of the table, what runs now and what is stale, as in `computed`."""
    from results.frame import read_frames

    viewer = Viewer.of(storage, places or Places.of_environment()) if with_stale else None
    planned = survey(table, storage) if viewer is None else viewer.survey(table)
    running = {item.cell.trial_id for item in planned if item.state == "running"}
    stale = {item.cell.trial_id: item.stale for item in planned if item.stale}
    return read_frames(storage, table, running=running, stale=stale)


def export(table: "ComputedTable", folder: Path) -> dict[str, Path]:
    """Write the table in every format; return what lies where, by title."""
    from results.tables import format_table, write_table

    written = {}
    for form, name in FILES.items():
        write_table(format_table(table, form), folder / name)
        written[form] = folder / name
    return written
