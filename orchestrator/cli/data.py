"""Commands about data: draw the synthetic set, build the cache or publish it for other machines, check every file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from orchestrator.cli.common import CacheFolder, Chosen, DataFolder, on_table
from trainer.spec import Synthetic
from trainer.storage import Storage

if TYPE_CHECKING:
    from trainer.data.cache import CachedSplit
    from trainer.data.published import Wanted

data_app = typer.Typer(name="data", help="Draw, prepare and check images.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(data_app, name="data")


@data_app.command()
def synthesize(
    data: DataFolder = "data",
    num_train: Annotated[int, typer.Option(help="Training scenes.")] = 240,
    num_eval: Annotated[int, typer.Option(help="Evaluation scenes.")] = 60,
    height: Annotated[int, typer.Option(help="Height of a scene in pixels.")] = 128,
    width: Annotated[int, typer.Option(help="Width of a scene in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Draws other scenes.")] = 0,
) -> None:
    """Draw street scenes and write them in the Cityscapes layout."""
    from trainer.data.catalog import open_layout, synthetic_root

    dataset = Synthetic(num_train=num_train, num_eval=num_eval, scene_height=height, scene_width=width, scene_seed=seed)
    open_layout(dataset, Path(data))
    print(synthetic_root(dataset, Path(data)))


@data_app.command()
@on_table
def prepare(
    chosen: Chosen,
    data: DataFolder = "data",
    cache: CacheFolder = None,
) -> None:
    """Build the memory-mapped caches that a table's trials read, at training size and at the size they are judged at.

    Where --data was made by `publish` they are copied from there. A run does either too where one is missing.
    """
    for wanted, images in prepared(chosen, data, cache):
        print(f"{described(wanted, images)}: {images.path}")


@data_app.command()
@on_table
def publish(
    chosen: Chosen,
    to: Annotated[str, typer.Option("--to", help="The published place: a shared folder, or s3://BUCKET/FOLDER.")],
    data: DataFolder = "data",
    cache: CacheFolder = None,
) -> None:
    """Put a table's caches where the machines of a cluster copy them from, each once: there, --data is that place.

    They are built here first where they are missing. What is there already is not written again.
    """
    from trainer.data.published import is_published
    from trainer.data.published import publish as publish_split
    from trainer.spec import absolute_place

    place = Storage(absolute_place(to))
    if place.is_local and place.name == absolute_place(data):
        raise ValueError(f"--to {to} is the folder of the images, which would be looked at no more: name another")
    if is_published(data):
        raise ValueError(
            f"--data {Storage(data).name} is a published place itself: name the folder that holds the images"
        )
    for wanted, images in prepared(chosen, data, cache):
        path, is_new = publish_split(images, wanted, place)
        print(f"{described(wanted, images)}: {path}{'' if is_new else ' (there already)'}")


def described(wanted: "Wanted", images: "CachedSplit") -> str:
    """How many images of what there are, at which size."""
    return f"{len(images)} {wanted.split} images of {wanted.name} at {images.height}x{images.width}"


def prepared(chosen: Chosen, data: str, cache: str | None) -> Iterator[tuple["Wanted", "CachedSplit"]]:
    """Each split that a table's trials read, once; built or copied where missing."""
    from trainer.data.cache import cache_folder
    from trainer.data.opening import open_wanted, wanted_splits

    wanted = {each.entry: each for cell in chosen.table.cells() for each in wanted_splits(cell.spec)}
    for each in wanted.values():
        yield each, open_wanted(each, data, cache_folder(cache))


@data_app.command()
@on_table
def check(
    chosen: Chosen,
    data: DataFolder = "data",
) -> None:
    """Read every file of a table's dataset and list each bad one; exit code 1 if there is any."""
    from trainer.data.catalog import open_layout
    from trainer.data.checking import check as check_split
    from trainer.data.opening import with_splits_of_their_own
    from trainer.data.published import is_published

    if is_published(data):
        raise ValueError(
            f"--data {Storage(data).name} holds published caches, no images: check the folder they were made from"
        )
    console, num_bad = Console(soft_wrap=True, highlight=False), 0
    for spec in with_splits_of_their_own(cell.spec for cell in chosen.table.cells()):
        dataset, layout = spec.dataset, open_layout(spec.dataset, Path(data))
        for split in (dataset.train_split, dataset.eval_split):
            samples = layout.samples(split)
            wants_one_size = split == dataset.eval_split and not spec.evaluation.is_resized
            problems = check_split(layout, split, wants_one_size=wants_one_size)
            num_bad += len(problems)
            for _, message in problems:
                console.print(f"[red]bad[/] {escape(message)}")
            console.print(escape(f"{layout.name} {split}: {len(samples)} images, {len(problems)} bad files"))
            remark = layout.count_remark(split, len(samples))
            if remark:
                console.print(f"[yellow]note:[/] {escape(remark)}")
    raise typer.Exit(1 if num_bad else 0)
