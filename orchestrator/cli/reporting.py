"""The command `report`: a table's page, its plots for a paper, and its files, all in one folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.table import Cell, Table
from orchestrator.cli.common import Chosen, Places, on_table, outputs_folder, that_compares
from orchestrator.cli.output import export, frames_of
from trainer.storage import Storage

if TYPE_CHECKING:
    from orchestrator.gallery import Gallery
    from results.compute import ComputedTable
    from results.explanation import Entries
    from results.plot_output import Plot

PAGE = "report.html"
_NUM_IMAGES = 4


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("report")(report)


@on_table
@that_compares
def report(
    chosen: Chosen,
    places: Places,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="The folder to write; default: where `run` leaves tables.")
    ] = None,
    gallery: Annotated[
        bool, typer.Option("--gallery/--no-gallery", help="Draw what trained networks see, where data are there.")
    ] = True,
    num_images: Annotated[int, typer.Option(min=1, help="How many evaluation images to show.")] = _NUM_IMAGES,
) -> None:
    """Draw the table's report: one page that needs no network, plots as PDF and PNG, and the table's files."""
    folder = out or outputs_folder(chosen.storage, chosen.table)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"-o {folder} is a file: give the folder that is to hold {PAGE}, plots and table files")
    print(write_report(chosen, places, folder, num_images=num_images if gallery else 0))


def write_report(chosen: Chosen, places: Places, folder: Path, *, num_images: int = _NUM_IMAGES) -> Path:
    """Write the report of a table and all that lies beside it; return the page.

    Args:
        num_images: evaluation images to show; with 0 no network is loaded.
    """
    from orchestrator.cli.bundling import write_whole
    from results.aggregate import selections_of
    from results.compute import compute_table
    from results.frame import read_curves
    from results.plots import plots_of
    from results.report import ReportParts, render
    from results.statistics import sentences, what_varies
    from results.usage import compute_statement, read_usage, trials_outside, usage_of

    table, storage = chosen.table, chosen.storage
    frames = frames_of(table, storage, places=places)
    selection, by_row = selections_of(table)
    result = compute_table(frames, table, selection, by_row=by_row)
    plots, usage = plots_of(result, frames, read_curves(storage, table)), usage_of(frames)
    outside = read_usage(storage, trials_outside(storage, {cell.trial_id for cell in table.cells()}))
    drawn = gallery_of(table, storage, places, num_images) if num_images else None
    parts = ReportParts(
        result,
        frames,
        plots=plots,
        statistics=sentences(result, varies=what_varies(table)),
        hours=usage.devices,
        compute_statement=compute_statement(usage, outside),
        origins=origins_of(chosen, places),
        pictures=drawn.pictures if drawn else (),
        picture_notes=drawn.notes if drawn else ("The gallery was not asked for.",),
        files=(
            ("Table", tuple(path.name for path in export(result, folder).values())),
            ("Statistics", (write_statistics(result, folder),)),
            *((plot.title, write_plot(plot, folder)) for plot in plots),
        ),
    )
    write_whole(folder / PAGE, render(parts).encode())
    return folder / PAGE


def gallery_of(table: Table, storage: Storage, places: Places, num_images: int) -> "Gallery":
    """The pictures of the table, as far as data and weights are there."""
    from orchestrator.gallery import draw_gallery

    return draw_gallery(table, storage, data=places.data, cache=places.cache, num_images=num_images)


def write_plot(plot: "Plot", folder: Path) -> tuple[str, ...]:
    """Write a plot as PDF and PNG; their paths in the folder."""
    from orchestrator.cli.bundling import write_whole
    from results.plot_output import plot_files

    contents = {f"plots/{plot.name}.{form}": content for form, content in plot_files(plot).items()}
    for path, content in contents.items():
        write_whole(folder / path, content)
    return tuple(contents)


def write_statistics(table: "ComputedTable", folder: Path) -> str:
    """Write the statistics as CSV; their name in the folder."""
    from orchestrator.cli.bundling import write_whole
    from results.statistics import format_statistics_csv

    write_whole(folder / "statistics.csv", format_statistics_csv(table).encode())
    return "statistics.csv"


def origins_of(chosen: Chosen, places: Places) -> "dict[str, Entries]":
    """Where the number of each trial comes from, by trial id."""
    from orchestrator.cli.explaining import words_of
    from orchestrator.here import Here
    from results.explanation import Command, entries_of

    here = Here(places.data, places.cache, places.weights)
    selection, words = chosen.selection.settled(chosen.storage), words_of(places)
    cells = {cell.trial_id: cell for cell in chosen.table.cells()}

    def entries(cell: Cell) -> "Entries":
        command = Command(tuple(selection.words_for(cell)), words)
        return entries_of(chosen.storage, cell, here=here, command=command)

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(cells, pool.map(entries, cells.values()), strict=True))
