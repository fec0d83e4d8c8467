"""The command that prints tables, and their files."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table as RichTable

from experiments.table import Table
from orchestrator.cli.common import Chosen, on_table
from orchestrator.plan import survey
from trainer.records import Storage

FILES = {"csv": "table.csv", "csv-long": "table-long.csv", "latex": "table.tex", "markdown": "table.md"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("table")(table_command)


@on_table
def table_command(
    chosen: Chosen,
    form: Annotated[
        Literal["text", "csv", "csv-long", "latex", "markdown"],
        typer.Option("--format", help="csv has a line per row, csv-long one per trial and network."),
    ] = "text",
    out: Annotated[Path | None, typer.Option("-o", "--output", help="A file instead of the screen.")] = None,
    policy: Annotated[
        Literal["last", "best"] | None,
        typer.Option(help="Which evaluation counts, in every row; default: as table and rows say."),
    ] = None,
    network: Annotated[
        Literal["student", "teacher"] | None,
        typer.Option(help="Which network counts, in every row; default: as table and rows say."),
    ] = None,
) -> None:
    """Print the table: mean ± std mIoU over seeds."""
    table, place = chosen.table, chosen.storage
    if form == "text":
        print_table(table, place, Console(), policy=policy, network=network)
        return
    text = formatted(table, place, form, policy=policy, network=network)
    if out is None:
        print(text, end="")
    else:
        from results.tables import write_table

        write_table(text, out)
        print(out)


def computed(table: Table, storage: Storage, *, policy: str | None = None, network: str | None = None):  # type: ignore[no-untyped-def]
    """The table as results computes it."""
    from results.aggregate import selections_of
    from results.compute import compute_table
    from results.frame import read_frames

    running = {item.cell.trial_id for item in survey(table, storage) if item.state == "running"}
    choice, by_row = selections_of(table, policy=policy, network=network)  # type: ignore[arg-type]
    return compute_table(read_frames(storage, table, running=running), table, choice, by_row=by_row)


def formatted(
    table: Table, storage: Storage, form: str, *, policy: str | None = None, network: str | None = None
) -> str:
    """The table as text in a format."""
    from results.tables import format_table

    return format_table(computed(table, storage, policy=policy, network=network), form)


def print_table(
    table: Table, storage: Storage, console: Console, *, policy: str | None = None, network: str | None = None
) -> None:
    """The table for a terminal, with its caption and what to be wary of."""
    from rich.markup import escape

    from results.compute import caption, header, rows_for_display

    result = computed(table, storage, policy=policy, network=network)
    view = RichTable(show_edge=False, pad_edge=False, leading=int(result.citation is not None))
    for number, title in enumerate(header(result)):  # a narrow terminal breaks lines; a mark or digit is never cut off
        view.add_column(escape(title), justify="left" if number == 0 else "right", overflow="fold")
    for label, *cells in rows_for_display(result, embolden=lambda text: f"[bold]{text}[/bold]", escape=escape):
        view.add_row(label, *(cell.replace("; ", "\n") for cell in cells))
    console.print(view)
    console.print(escape(caption(result)), highlight=False, style="dim")
    for warning in result.warnings:
        console.print(f"[yellow]note:[/] {escape(warning)}", highlight=False)


def export(table: Table, storage: Storage, folder: Path) -> dict[str, Path]:
    """Write the table in every format; return what lies where, by title."""
    from results.tables import format_table, write_table

    result = computed(table, storage)
    places = {}
    for form, name in FILES.items():
        write_table(format_table(result, form), folder / name)
        places[form] = folder / name
    return places
