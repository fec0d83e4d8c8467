"""What `mixgrid preview` draws: a table's masks on a pair of images, a step's batches, predictions of trials."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.table import Cell, Table
from orchestrator.gallery import open_evaluation, predictions_of, sketch
from orchestrator.predicting import find_images
from trainer.build import DTYPES, build_mask, build_method, build_pools, open_data
from trainer.data.cache import cache_folder
from trainer.data.catalog import palette_of
from trainer.data.folders import read_image
from trainer.data.opening import open_wanted
from trainer.data.published import Wanted
from trainer.data.resizing import Array
from trainer.data.streams import Streams
from trainer.drawing import Panel, colored, overlaid, png_of, scale_for, sheet_of, small_image, small_map
from trainer.evaluate import predict_whole
from trainer.losses import IGNORE_INDEX
from trainer.machine import choose_device
from trainer.methods.base import Batch
from trainer.methods.masks import MaskFn
from trainer.predicting import Predictor
from trainer.preview import as_map, as_pixels, mix_panels, prediction_panels, spread_over, truth_panels
from trainer.records import DamagedRecord
from trainer.spec import NAMED_METHODS, ComplexMask, Mask, Mix, RunOptions
from trainer.storage import Storage
from trainer.trained import NetworkName, NothingTrained, Trained, load_kept

_ACROSS = 8
"""Pictures of a batch beside each other."""


def masks_png(table: Table, storage: Storage, *, data: str | Path, cache: str | None, step: int) -> tuple[bytes, str]:
    """The PNG, and where its classes come from."""
    spec = table.cells()[0].spec
    images = open_wanted(Wanted(spec.dataset, spec.dataset.eval_split), data, cache_folder(cache))
    pair = [(2 * step) % len(images), (2 * step + 1) % len(images)]
    image = torch.from_numpy(images.images(pair)).permute(0, 3, 1, 2).float() / 255
    class_maps = torch.from_numpy(images.labels(pair)).long()
    source = "labels"
    trained = trained_network(table, storage)
    if trained is not None:
        class_maps, source = trained[1](image), trained[0]
    masks = masks_of(table, len(images.class_names))
    rows = mix_panels(image, class_maps, masks, np.asarray(palette_of(spec.dataset)), seed=spec.seed, step=step)
    return png_of(rows, scale=scale_for(images.width)), source


def masks_of(table: Table, num_classes: int) -> list[tuple[str, MaskFn]]:
    """The mask functions of `mask_specs`, by their names."""
    return [(label, build_mask(mask, num_classes)) for label, mask in mask_specs(table).items()]


def mask_specs(table: Table) -> dict[str, Mask]:
    """The masks of the table's own mixing methods by their labels, then the named ones that it does not have."""
    chosen: dict[str, Mask] = {}
    for cell in table.cells():
        if isinstance(cell.spec.method, Mix):
            chosen.setdefault(cell.row, cell.spec.method.mask)
    counts = next((mask.block_counts for mask in chosen.values() if isinstance(mask, ComplexMask)), None)
    for name, method in NAMED_METHODS.items():
        if isinstance(method, Mix) and method.mask not in chosen.values():
            mask = method.mask
            is_literal = isinstance(mask, ComplexMask) and mask.grid == "per_side"
            if is_literal and counts is not None:
                continue  # the table's own counts stand for it
            chosen[name] = mask
    return chosen


Labeler = Callable[[Tensor], Tensor]
"""Images [N, 3, H, W] in [0, 1] to classes [N, H, W]."""


def labeler_of(trained: Trained) -> Labeler:
    """What a trained student sees in images."""
    network, dtype = trained.network("student", torch.device("cpu")), DTYPES[trained.spec.precision]

    @torch.no_grad()
    def classes_of(image: Tensor) -> Tensor:
        return predict_whole(network, image.to(dtype))

    return classes_of


def trained_network(table: Table, storage: Storage) -> tuple[str, Labeler] | None:
    """The student of the last finished trial of a table with the weights that its result names, and its name."""
    for cell in reversed(table.cells()):
        with suppress(NothingTrained, DamagedRecord):
            return f"predictions of {cell.name}", labeler_of(load_kept(storage, cell.trial_id))
    return None


# --- batches ------------------------------------------------------------------------------------------------------


def batch_png(cell: Cell, *, data: str | Path, cache: str | None, step: int) -> bytes:
    """What a step of a trial sees: every stream's images after resizing, crop and flip, with labels where they count.

    Args:
        step: updates done before; the phase it belongs to decides which streams are read.
    """
    train, _, split = open_data(cell.spec, data, cache_folder(cache))
    streams = Streams(
        build_method(cell.spec, len(train.class_names)),
        train,
        build_pools(split, train),
        view=cell.spec.view,
        seed=cell.spec.seed,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    try:
        batches = streams.whole(step)
    finally:
        streams.close()
    palette = palette_of(cell.spec.dataset)
    return sheet_of([row for name, batch in batches.items() for row in _batch_rows(name, batch, palette)])


def _batch_rows(name: str, batch: Batch, palette: Array) -> Iterator[list[Panel]]:
    """A stream's images, at most _ACROSS in a row, and below them their labels where any pixel has one."""
    for first in range(0, len(batch.image), _ACROSS):
        part = range(first, min(first + _ACROSS, len(batch.image)))
        yield [(f"{name} {place}", small_image(as_pixels(batch.image[place]))) for place in part]
        labels = [as_map(batch.label[place]) for place in part]
        if any((label != IGNORE_INDEX).any() for label in labels):
            pairs = zip(part, labels, strict=True)
            yield [(f"label of {name} {place}", colored(small_map(label), palette)) for place, label in pairs]


# --- predictions --------------------------------------------------------------------------------------------------


def table_sheet(
    table: Table, storage: Storage, *, data: str | Path, cache: str | None, num_images: int
) -> tuple[bytes, tuple[str, ...]]:
    """Images of the evaluation split in columns; truth, then every row's prediction and errors below; and notes.

    Raises: ValueError where nothing can be drawn, with the reasons.
    """
    sketches, notes = sketch(table, storage, data=data, cache=cache, num_images=num_images)
    rows: dict[tuple[str, str], list[Panel]] = {}
    for each in sketches:
        if each.kind not in ("mask", "mix"):
            rows.setdefault((each.row, each.kind), []).append((each.title, each.pixels))
    if not rows:
        raise ValueError(" ".join(notes))
    return sheet_of(list(rows.values())), notes


def trial_sheet(
    trained: Trained, network: NetworkName, *, data: str | Path, cache: str | None, num_images: int
) -> bytes:
    """The same of one trial."""
    images, palette = open_evaluation(trained.spec, data, cache), palette_of(trained.spec.dataset)
    places = {images.names[place]: place for place in spread_over(images, num_images)}
    columns = []
    for name, prediction in predictions_of(trained, network, images, places, choose_device(RunOptions())):
        image, label = images.image(places[name]), images.label(places[name])
        panels = prediction_panels(network, image, label, prediction, palette)
        columns.append([*truth_panels(name, image, label, palette), *panels])
    return sheet_of([list(row) for row in zip(*columns, strict=True)])


def folder_sheet(trained: Trained, network: NetworkName, folder: Path, *, num_images: int) -> bytes:
    """Images of a folder, spread evenly over it by name, and what a trained network sees in them.

    Raises: DataError for a folder without images, or an image that cannot be read.
    """
    found = find_images(folder)
    count = min(num_images, len(found))
    chosen = [found[(2 * part + 1) * len(found) // (2 * count)] for part in range(count)]
    predictor, palette = Predictor(trained, network, choose_device(RunOptions())), palette_of(trained.spec.dataset)
    columns = []
    for file in chosen:
        image = read_image(file.path)
        (prediction,) = predictor([image])
        seen = [(file.name, small_image(image)), (network, colored(small_map(prediction), palette))]
        columns.append([*seen, ("both", small_image(overlaid(image, prediction, palette)))])
    return sheet_of([list(row) for row in zip(*columns, strict=True)])
