"""Pictures of a finished table for its report: images, truth, every row's prediction and errors, every mix.

What cannot be drawn is left out and said in words; a picture is no reason to have no report.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch

from experiments.table import Cell, Row, Table
from trainer.build import DTYPES, PREDICTORS, build_mask
from trainer.data.cache import CachedSplit, cache_folder
from trainer.data.catalog import palette_of
from trainer.data.opening import open_wanted, wanted_splits
from trainer.data.published import Wanted
from trainer.data.resizing import Array
from trainer.data.streams import on_device
from trainer.drawing import Panel, small_image, to_small_png
from trainer.evaluate import predict_whole
from trainer.machine import choose_device
from trainer.preview import mix_panels, prediction_panels, predictor_on, spread_over, truth_panels
from trainer.reading import trial_state
from trainer.spec import Mix, RunOptions, TrialSpec
from trainer.storage import Storage
from trainer.trained import NetworkName, Trained, load_kept

Kind = Literal["image", "truth", "prediction", "error", "mask", "mix"]
LEGEND = (
    "Ignored pixels are black in truths. Errors are yellow on the darkened image; where nothing counts it is striped."
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as a PNG at most 256 pixels wide and of 256 colours; images and truths belong to no row ("")."""

    title: str
    row: str
    kind: Kind
    image_name: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Gallery:
    """The pictures, image by image and then row by row, and what to know of them, in sentences."""

    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A picture before it is a file: pixels [H, W, 3] uint8."""

    title: str
    row: str
    kind: Kind
    image_name: str
    pixels: Array


def draw_gallery(
    table: Table, storage: Storage, *, data: str | Path, cache: str | None, num_images: int = 4
) -> Gallery:
    """Draw a table as far as weights and data are there; the notes say of what, and what is missing."""
    sketches, notes = sketch(table, storage, data=data, cache=cache, num_images=num_images)
    pictures = tuple(
        Picture(each.title, each.row, each.kind, each.image_name, to_small_png(each.pixels)) for each in sketches
    )
    return Gallery(pictures, notes)


def sketch(
    table: Table, storage: Storage, *, data: str | Path, cache: str | None, num_images: int
) -> tuple[list[Sketch], tuple[str, ...]]:
    """What `draw_gallery` draws, and its notes."""
    fraction, notes = most_complete_fraction(table, storage)
    artist = _Artist(data, cache, num_images)
    sketches: list[Sketch] = []
    failed: dict[str, list[str]] = {}
    for row in table.included_rows:
        cells = [cell for cell in table.cells() if (cell.row, cell.label_fraction) == (row.label, fraction)]
        if not cells:
            continue
        try:
            cell, trained, reason = first_trained(cells, storage)
            notes += [reason] if reason else []
            sketches += artist.row(row, cell, trained, network_of(table, row, trained))
        except (ValueError, OSError, RuntimeError) as error:
            failed.setdefault(str(error), []).append(row.label)
    notes += [f"Not drawn: {', '.join(labels)}: {reason}." for reason, labels in failed.items()]
    if artist.names:
        notes.append(f"Images, spread evenly over the evaluation split by their names: {', '.join(artist.names)}.")
        notes.append(LEGEND)
    return [*artist.top, *sketches], tuple(notes)


# --- which trials -------------------------------------------------------------------------------------------------


def most_complete_fraction(table: Table, storage: Storage) -> tuple[Fraction, list[str]]:
    """The fraction at which most rows have a trial that is done, the smallest of equals, and that in words."""
    rows: dict[Fraction, set[str]] = {fraction: set() for fraction in sorted(table.fractions)}
    for cell in table.cells():
        if cell.row not in rows[cell.label_fraction] and trial_state(storage, cell.trial_id).kind == "done":
            rows[cell.label_fraction].add(cell.row)
    best = max(rows, key=lambda fraction: len(rows[fraction]))
    words = (
        f"Pictures are of label fraction {best}, where {len(rows[best])} of {len(table.included_rows)} rows are done."
    )
    if "best" in {table.frame.selection, *(row.selection for row in table.included_rows)}:
        words += " Weights are those of the last step, also where the table reports the best evaluation."
    return best, [words]


def first_trained(cells: Sequence[Cell], storage: Storage) -> tuple[Cell, Trained | None, str]:
    """The first of some cells whose trial has weights to show, and why it is not the first of all, or none."""
    reasons = []
    for cell in cells:
        try:
            trained = load_kept(storage, cell.trial_id)
        except (ValueError, OSError) as error:
            reasons.append(f"{cell.name} is not shown: {error}.")
        else:
            return cell, trained, " ".join(reasons)
    return cells[0], None, " ".join(reasons)


def network_of(table: Table, row: Row, trained: Trained | None) -> NetworkName:
    """The network that the table reports for a row; the student where the trial has no teacher."""
    reported = row.reported_network or table.frame.reported_network
    return reported if trained is not None and trained.weights.get(reported) is not None else "student"


# --- drawing ------------------------------------------------------------------------------------------------------


class _Artist:
    """Draws rows on the images `names` that the first row with data chose; `top` shows these and their truths."""

    def __init__(self, data: str | Path, cache: str | None, num_images: int) -> None:
        self._data = data
        self._cache = cache
        self._num_images = num_images
        self._device = choose_device(RunOptions())
        self.names: list[str] = []
        self.top: list[Sketch] = []

    def row(self, row: Row, cell: Cell, trained: Trained | None, network: NetworkName) -> Iterator[Sketch]:
        """Predictions and errors of a row where it is trained, and its mix where it mixes."""
        images = open_evaluation(cell.spec, self._data, self._cache)
        palette = palette_of(cell.spec.dataset)
        if not self.names:
            self._choose(images, palette)
        places = {name: images.names.index(name) for name in self.names if name in images.names}
        if trained is not None:
            yield from self._predictions(row.label, images, places, trained, network)
        if isinstance(cell.spec.method, Mix):
            yield from self._mix(row.label, cell.spec, cell.spec.method, trained)

    def _choose(self, images: CachedSplit, palette: Array) -> None:
        for place in spread_over(images, self._num_images):
            name = images.names[place]
            panels = truth_panels(name, images.image(place), images.label(place), palette)
            self.names.append(name)
            self.top += _sketches(panels, ("image", "truth"), "", name)

    def _predictions(
        self, label: str, images: CachedSplit, places: dict[str, int], trained: Trained, name: NetworkName
    ) -> Iterator[Sketch]:
        palette = palette_of(trained.spec.dataset)
        for image_name, prediction in predictions_of(trained, name, images, places, self._device):
            place = places[image_name]
            panels = prediction_panels(label, images.image(place), images.label(place), prediction, palette)
            yield from _sketches(panels, ("prediction", "error"), label, image_name)

    def _mix(self, label: str, spec: TrialSpec, method: Mix, trained: Trained | None) -> Iterator[Sketch]:
        """A mask and a mix of the first two images, by the classes that the trained teacher sees, else by labels."""
        images = open_small(spec, self._data, self._cache)
        pair = [images.names.index(name) for name in (self.names * 2)[:2] if name in images.names]
        if len(pair) < 2:
            return
        class_maps = torch.from_numpy(images.labels(pair)).long()
        if trained is not None:
            chosen: NetworkName = "student" if trained.weights.get("teacher") is None else "teacher"
            network = trained.network(chosen, self._device)
            class_map_of = predictor_on(images, predict_whole, device=self._device, dtype=DTYPES[spec.precision])
            class_maps = torch.stack([torch.from_numpy(class_map_of(network, place)) for place in pair]).long()
        pixels = on_device(torch.from_numpy(images.images(pair)), torch.device("cpu"), torch.float32)
        masks = [(label, build_mask(method.mask, len(images.class_names)))]
        _, panels = mix_panels(pixels, class_maps, masks, palette_of(spec.dataset), seed=spec.seed, step=0)
        names = " and ".join(images.names[place] for place in pair)
        yield from _sketches(panels[:2], ("mask", "mix"), label, names)


def _sketches(panels: Sequence[Panel], kinds: Sequence[Kind], row: str, image_name: str) -> list[Sketch]:
    return [
        Sketch(title, row, kind, image_name, small_image(pixels))
        for (title, pixels), kind in zip(panels, kinds, strict=True)
    ]


def predictions_of(
    trained: Trained, name: NetworkName, images: CachedSplit, places: dict[str, int], device: torch.device
) -> Iterator[tuple[str, Array]]:
    """The classes of images of a split as the trial's evaluation sees them, by their names."""
    spec = trained.spec
    network = trained.network(name, device)
    predict = PREDICTORS[spec.evaluation.protocol](spec)
    class_map_of = predictor_on(images, predict, device=device, dtype=DTYPES[spec.precision])
    for image_name, place in places.items():
        yield image_name, class_map_of(network, place)


def open_evaluation(spec: TrialSpec, data: str | Path, cache: str | None) -> CachedSplit:
    """The images a trial is judged on, at the size it is judged at; built where missing."""
    _, judged = wanted_splits(spec)
    return open_wanted(judged, data, cache_folder(cache))


def open_small(spec: TrialSpec, data: str | Path, cache: str | None) -> CachedSplit:
    """The same images at the trained size."""
    return open_wanted(Wanted(spec.dataset, spec.dataset.eval_split), data, cache_folder(cache))
