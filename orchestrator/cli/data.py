"""Commands about data: draw the synthetic set, build the cache, check every file."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from orchestrator.cli.common import CacheFolder, Chosen, DataFolder, on_table
from trainer.spec import Synthetic

app = typer.Typer(name="data", help="Draw, prepare and check images.", no_args_is_help=True)


@app.command()
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


@app.command()
@on_table
def prepare(
    chosen: Chosen,
    data: DataFolder = "data",
    cache: CacheFolder = None,
) -> None:
    """Build the memory-mapped caches that a table's trials read, at training size and at the size they are judged at.

    A run does it too where one is missing.
    """
    from trainer.data.cache import cache_folder
    from trainer.data.catalog import open_layout
    from trainer.data.opening import open_splits, with_splits_of_their_own

    for spec in with_splits_of_their_own(cell.spec for cell in chosen.table.cells()):
        dataset, layout = spec.dataset, open_layout(spec.dataset, Path(data))
        both = open_splits(spec, layout, cache_folder(cache))
        for split, images in zip((dataset.train_split, dataset.eval_split), both, strict=True):
            print(f"{len(images)} {split} images of {layout.name} at {images.height}x{images.width}: {images.path}")


@app.command()
@on_table
def check(
    chosen: Chosen,
    data: DataFolder = "data",
) -> None:
    """Read every file of a table's dataset and list each bad one; exit code 1 if there is any."""
    from trainer.data.catalog import open_layout
    from trainer.data.checking import check as check_split
    from trainer.data.opening import with_splits_of_their_own

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
