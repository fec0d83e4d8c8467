"""Commands that print tables and draw previews."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table as RichTable

from experiments.table import Table
from orchestrator.cli.common import CacheFolder, Chosen, DataFolder, Places, on_table, that_compares
from orchestrator.cli.stale import judge_here
from orchestrator.plan import never_stale, survey
from trainer.records import Storage

if TYPE_CHECKING:
    from results.compute import ComputedTable
    from trainer.mask_statistics import MaskSurvey

preview_app = typer.Typer(name="preview", help="Look at what training sees.", no_args_is_help=True)
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
    preview_app.command("masks")(preview_masks)


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
    from results.frame import read_frames

    judge = judge_here(storage, places or Places.of_environment()) if with_stale else never_stale
    planned = survey(table, storage, judge)
    running = {item.cell.trial_id for item in planned if item.state == "running"}
    stale = {item.cell.trial_id: item.stale for item in planned if item.stale}
    choice, by_row = selections_of(table, policy=policy, network=network)  # type: ignore[arg-type]
    return compute_table(read_frames(storage, table, running=running, stale=stale), table, choice, by_row=by_row)


def export(table: "ComputedTable", folder: Path) -> dict[str, Path]:
    """Write the table in every format; return what lies where, by title."""
    from results.tables import format_table, write_table

    written = {}
    for form, name in FILES.items():
        write_table(format_table(table, form), folder / name)
        written[form] = folder / name
    return written


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
    from orchestrator.cli.common import outputs_folder

    table, place = chosen.table, chosen.storage
    path = out or outputs_folder(place, table) / ("mask-statistics.png" if stats else "masks.png")
    if stats:
        measure_masks(table, path, data=data, cache=cache, num_images=num_images, step=step)
        return
    from orchestrator.previewing import masks_png

    content, source = masks_png(table, place, data=Path(data), cache=cache, step=step)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"{path} (classes: {source})")


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
        survey = survey_masks(table, data=Path(data), cache=cache, num_images=num_images, step=step)
    print_mask_statistics(survey, Console())
    contents = {"csv": format_csv(survey).encode(), "pdf": picture(survey, "pdf"), "png": picture(survey, "png")}
    path.parent.mkdir(parents=True, exist_ok=True)
    for form, content in contents.items():
        path.with_suffix(f".{form}").write_bytes(content)
        print(f"{form:<12} {path.with_suffix(f'.{form}')}")


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
