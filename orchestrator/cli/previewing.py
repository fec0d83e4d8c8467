"""Commands that draw what training sees and what networks see: `mixgrid preview`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable

from experiments.table import Table
from orchestrator.cli.common import CacheFolder, Chosen, DataFolder, on_table, outputs_folder
from orchestrator.cli.grid import cells_named
from orchestrator.cli.predicting import Checkpoint, Network, named_trial, names_a_trial, told

if TYPE_CHECKING:
    from trainer.mask_statistics import MaskSurvey

preview_app = typer.Typer(name="preview", help="Look at what training sees.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    preview_app.command("masks")(preview_masks)
    preview_app.command("batch")(preview_batch)
    preview_app.command("predictions")(preview_predictions)
    app.add_typer(preview_app, name="preview")


@on_table
def preview_masks(
    chosen: Chosen,
    data: DataFolder = "data",
    cache: CacheFolder = None,
    step: Annotated[int, typer.Option(help="Draw the masks of this step.")] = 0,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="The PNG to write.")] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Measure the masks instead: a table, and beside the PNG a CSV and a PDF.")
    ] = False,
    num_images: Annotated[int, typer.Option(min=1, help="With --stats: how many training images, by the seed.")] = 50,
) -> None:
    """Draw images a and b, their classes, and the mask and mix of every method, as one PNG.

    The classes are a finished trial's predictions where the storage has one of this table, else the labels.
    With --stats: the complexity of every mask against its correctness, on true labels, without training.
    """
    table, place = chosen.table, chosen.storage
    path = out or outputs_folder(place, table) / ("mask-statistics.png" if stats else "masks.png")
    if stats:
        measure_masks(table, path, data=data, cache=cache, num_images=num_images, step=step)
        return
    from orchestrator.previewing import masks_png

    content, source = masks_png(table, place, data=data, cache=cache, step=step)
    print(f"{written(path, content)} (classes: {source})")


@on_table
def preview_batch(
    chosen: Chosen,
    data: DataFolder = "data",
    cache: CacheFolder = None,
    step: Annotated[int, typer.Option(min=0, help="Draw the batches of this step.")] = 0,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="The PNG to write.")] = None,
) -> None:
    """Draw what one step of training sees: every stream's images after crop and flip, with their labels.

    The first cell of the chosen part of the table is meant: --rows, --fractions and --seeds choose another.
    """
    cell = chosen.table.cells()[0]
    if step >= cell.spec.num_steps:
        raise ValueError(f"--step {step}: {cell.name} trains steps 0 to {cell.spec.num_steps - 1}")
    from orchestrator.previewing import batch_png

    path = out or outputs_folder(chosen.storage, chosen.table) / "batch.png"
    content = batch_png(cell, data=data, cache=cache, step=step)
    print(f"{written(path, content)} (step {step} of {cell.name})")


@on_table
def preview_predictions(
    chosen: Chosen,
    cell: Annotated[str | None, typer.Argument(metavar="CELL", help="One cell; default: every row.")] = None,
    data: DataFolder = "data",
    cache: CacheFolder = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of images instead of the evaluation images; one trial only.")
    ] = None,
    num_images: Annotated[int, typer.Option(min=1, help="How many, spread evenly over them.")] = 4,
    network: Network = "student",
    checkpoint: Checkpoint = False,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="The PNG to write.")] = None,
) -> None:
    """Draw images, their truth, and predictions with their errors, as one PNG.

    Of a table: the network that it reports of one trial of every row, at the fraction where most rows are done. With
    CELL, or a trial's folder or id in the place of TABLE: of that trial.
    """
    word = chosen.selection.table
    is_trial = word is not None and (names_a_trial(word, chosen.storage) or Path(word).expanduser().is_dir())
    if cell is None and not is_trial:
        if images is not None or checkpoint:
            raise ValueError(
                "--images and --checkpoint are of one trial: give CELL, or a trial's folder or id as TABLE"
            )
        draw_table(chosen, out, data=data, cache=cache, num_images=num_images)
        return
    from orchestrator.previewing import folder_sheet, trial_sheet

    name = str(word) if cell is None else cells_named(chosen.table, cell)[0].trial_id
    trained = named_trial(name, chosen.storage, table=None, checkpoint=checkpoint)
    if images is None:
        content = trial_sheet(trained, network, data=data, cache=cache, num_images=num_images)
    else:
        content = folder_sheet(trained, network, images, num_images=num_images)
    path = out or Path("predictions") / f"{trained.spec.trial_id}.png"
    print(f"{written(path, content)} ({told(trained, network)})")


def draw_table(chosen: Chosen, out: Path | None, *, data: str, cache: str | None, num_images: int) -> None:
    """Draw every row of a table, and say of what the picture is and what is missing."""
    from orchestrator.previewing import table_sheet

    path = out or outputs_folder(chosen.storage, chosen.table) / "predictions.png"
    content, notes = table_sheet(chosen.table, chosen.storage, data=data, cache=cache, num_images=num_images)
    print(written(path, content))
    for note in notes:
        print(note)


def written(path: Path, content: bytes) -> Path:
    """Write a file, and its folder where it is missing; return where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def measure_masks(table: Table, path: Path, *, data: str, cache: str | None, num_images: int, step: int) -> None:
    """Measure a table's masks; print the numbers and write them as the PNG `path`, a CSV and a PDF beside it.

    Raises: ValueError where the path is no PNG.
    """
    if path.suffix != ".png":
        raise ValueError(f"-o {path}: give the name of a .png; the CSV and the PDF are written beside it")
    from orchestrator.mask_statistics import survey_masks
    from results.mask_plot import picture
    from results.mask_summary import format_csv

    with Console(stderr=True).status("measuring masks"):
        survey = survey_masks(table, data=data, cache=cache, num_images=num_images, step=step)
    print_mask_statistics(survey, Console())
    contents = {"csv": format_csv(survey).encode(), "pdf": picture(survey, "pdf"), "png": picture(survey, "png")}
    for form, content in contents.items():
        print(f"{form:<12} {written(path.with_suffix(f'.{form}'), content)}")


def print_mask_statistics(survey: "MaskSurvey", console: Console) -> None:
    """The statistics of masks for a terminal, and what they are."""
    from rich.markup import escape

    from results.mask_summary import caption, header, rows

    view = RichTable(show_edge=False, pad_edge=False)
    for number, title in enumerate(header()):
        view.add_column(escape(title), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows(survey):
        view.add_row(*map(escape, row))
    console.print(view)
    for line in caption(survey):
        console.print(escape(line), highlight=False, style="dim")
