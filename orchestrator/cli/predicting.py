"""The command that predicts, and how a trial is named that has something to predict with."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from experiments.table import TableError
from orchestrator.cli.common import Selection, StorageUrl
from trainer.reading import trial_state
from trainer.records import trial_path
from trainer.spec import RunOptions
from trainer.storage import Storage

if TYPE_CHECKING:
    from orchestrator.predicting import Written
    from trainer.trained import Trained

Network = Annotated[Literal["student", "teacher"], typer.Option(help="Which of the trial's networks.")]
Checkpoint = Annotated[
    bool, typer.Option("--checkpoint", help="The newest checkpoint of a trial that is not done, or kept them.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
_TRIAL_ID = re.compile(r"[A-Za-z0-9_]+-[0-9a-f]{12}")
_MOST_PROBLEMS = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(predict)


def predict(
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="A trial's folder (runs/trials/…), its id, or a cell: row@fraction.")
    ],
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A folder of images; folders in it are looked into.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Default: predictions/<trial id>.")] = None,
    storage: StorageUrl = "runs",
    table: Annotated[str | None, typer.Option(help="The table of the cell; default: the last one run.")] = None,
    network: Network = "student",
    checkpoint: Checkpoint = False,
    ids: Annotated[
        Literal["train", "cityscapes"],
        typer.Option(help="cityscapes: also label ids for its server, in a folder of their own."),
    ] = "train",
    device: Device = "auto",
) -> None:
    """Write label maps and coloured overlays of images, by the trained weights of one trial.

    The network sees an image as it saw those it was judged on: at the trained size with its scores brought back to the
    image's own, or at full size, whole or in windows.
    """
    place = Storage(storage)
    if not images.is_dir():
        raise ValueError(f"{images} is no folder of images")
    trained = named_trial(trial, place, table=table, checkpoint=checkpoint)
    from orchestrator.predicting import find_images, predict_folder, refuse_place_inside
    from trainer.machine import choose_device
    from trainer.predicting import Predictor

    folder = out or Path("predictions") / trained.spec.trial_id
    refuse_place_inside(folder, images)
    found = find_images(images)
    predictor = Predictor(trained, network, choose_device(RunOptions(device=device)))
    console = Console(stderr=True)
    console.print(told(trained, network), highlight=False, soft_wrap=True, markup=False)
    with progress_bar(console, "predicting", len(found)) as step:
        written = predict_folder(predictor, trained, found, folder, ids=ids, progress=step)
    say_written(written, folder, ids)
    if written.problems:
        shown = "\n".join(f"  {line}" for line in written.problems[:_MOST_PROBLEMS])
        raise ValueError(f"{len(written.problems)} of {len(found)} images cannot be read:\n{shown}")


def say_written(written: "Written", folder: Path, ids: str) -> None:
    """Where what lies."""
    for name, what in (("labels", "class indices"), ("overlays", "colours on images"), ("classes.csv", "what is what")):
        print(f"{what:<18} {folder / name}")
    if ids == "cityscapes":
        print(
            f"{'server ids':<18} {folder / 'cityscapes'} (zip this folder alone: a second map of an image is an error)"
        )
    if written.num_unlike_the_server:
        print(f"note: {written.num_unlike_the_server} names are not <city>_123456_123456, as the server wants them")
    print(f"{written.num_images} images predicted")


def told(trained: "Trained", network: str) -> str:
    """Whose prediction it is, in one line."""
    spec = trained.spec
    part = "" if trained.step == spec.num_steps else f" of {spec.num_steps}: it is not done"
    return f"{spec.trial_id}, {network} after step {trained.step}{part}, judged by {spec.evaluation.protocol}"


def named_trial(word: str, storage: Storage, *, table: str | None, checkpoint: bool) -> "Trained":
    """The trained networks of the trial that a word names: a folder, a trial id, or a cell of a table.

    Raises: ValueError that says what the word may be.
    """
    from trainer.trained import load_finished, load_kept, load_newest

    folder = Path(word).expanduser()
    if folder.is_dir() and checkpoint:
        if folder.absolute().parent.name != "trials":
            raise ValueError(f"{folder}: --checkpoint wants a trial's folder in its storage, …/trials/<trial id>")
        return load_newest(Storage(str(folder.absolute().parents[1])), folder.name)
    if folder.is_dir():
        return load_finished(Storage(str(folder)))
    trial_id = word if names_a_trial(word, storage) else cell_named(word, storage, table)
    return (load_newest if checkpoint else load_kept)(storage, trial_id)


def names_a_trial(word: str, storage: Storage) -> bool:
    """Whether a word is the id of a trial that the storage holds."""
    return _TRIAL_ID.fullmatch(word) is not None and storage.exists(trial_path(word))


def cell_named(word: str, storage: Storage, table: str | None) -> str:
    """The id of the first trial of a cell that is done, else of its first. Raises: ValueError."""
    from orchestrator.cli.grid import cells_named

    try:
        cells = cells_named(Selection(table, None, None, None, None).resolve(storage), word)
    except TableError as error:
        raise ValueError(
            f"{word!r} is no folder here, no trial id of the storage {storage.name}, and no cell: {error}"
        ) from error
    done = [cell.trial_id for cell in cells if trial_state(storage, cell.trial_id).kind == "done"]
    return (done or [cells[0].trial_id])[0]


@contextmanager
def progress_bar(console: Console, title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal that moves on with every call."""
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
