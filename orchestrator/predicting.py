"""Predicts a folder of images: label maps, overlays, and the ids that the server of Cityscapes reads."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.data.cache import in_order
from trainer.data.catalog import palette_of
from trainer.data.cityscapes import label_ids_of
from trainer.data.folders import IMAGE_SUFFIXES, DataError, files_below, read_image
from trainer.data.resizing import Array
from trainer.drawing import overlaid, to_png
from trainer.predicting import Predictor
from trainer.trained import Trained

Ids = Literal["train", "cityscapes"]
_IMAGE_ENDING = "_leftImg8bit"
_SERVER_NAME = re.compile(r"[a-z-]+_\d{6}_\d{6}")
"""Source: cityscapesScripts, evalPixelLevelSemanticLabeling.py: <city>_123456_123456*.png, once in all folders."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image to predict: its path below the folder without its ending, and where it lies."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder of predictions holds: images predicted, and those that could not be read, each with the reason."""

    num_images: int
    problems: tuple[str, ...]
    num_unlike_the_server: int = 0


def find_images(folder: Path) -> list[ImageFile]:
    """All images below a folder, sorted by name; hidden files are left out.

    Raises: DataError where there is no folder or no image in it, and where two images have the same name.
    """
    images: dict[str, Path] = {}
    for file in sorted(files_below(folder)):
        stem, dot, suffix = file.rpartition(".")
        if f"{dot}{suffix}".lower() not in IMAGE_SUFFIXES:
            continue
        if stem in images:
            raise DataError(f"{images[stem]} and {folder / file} would have one prediction: keep one of them")
        images[stem] = folder / file
    if not images:
        found = "holds no image" if folder.is_dir() else "does not exist: it should hold images"
        raise DataError(f"the folder {folder} {found} with one of the endings {', '.join(IMAGE_SUFFIXES)}")
    return [ImageFile(name, path) for name, path in sorted(images.items())]


def refuse_place_inside(out: Path, folder: Path) -> None:
    """Raises: DataError where predictions would be written among the images, and be predicted the next time."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"-o {out} lies in the folder of images {folder}: choose a folder outside of it")


def predict_folder(
    predictor: Predictor,
    trained: Trained,
    images: list[ImageFile],
    out: Path,
    *,
    ids: Ids,
    progress: Callable[[], None],
) -> Written:
    """Predict images into a folder; one that cannot be read does not keep the others from it.

    `labels/` holds a class index per pixel (the train ids of Cityscapes), `overlays/` the colours on the image,
    `classes.csv` what is what, and with ids "cityscapes" `cityscapes/` label ids for its server. `progress` is
    called after every image.

    Raises: DataError for ids "cityscapes" of classes that Cityscapes does not have.
    """
    label_ids = label_ids_of(trained.class_names) if ids == "cityscapes" else None
    palette = palette_of(trained.spec.dataset)
    problems: list[str] = []
    num_images = num_unlike = 0
    write(out / "classes.csv", _legend(trained.class_names, palette, label_ids))
    for batch in _batches(images, predictor, problems, progress):
        class_maps = predictor([pixels for _, pixels in batch])
        for (file, pixels), class_map in zip(batch, class_maps, strict=True):
            write(out / "labels" / f"{file.name}.png", to_png(class_map))
            write(out / "overlays" / f"{file.name}.png", to_png(overlaid(pixels, class_map, palette)))
            if label_ids is not None:
                name = server_name(file.name)
                num_unlike += _SERVER_NAME.match(Path(name).name) is None
                write(out / "cityscapes" / name, to_png(label_ids[class_map]))
            num_images += 1
            progress()
    return Written(num_images, tuple(problems), num_unlike)


def server_name(name: str) -> str:
    """What the server of Cityscapes looks for, in any folder: <city>_<sequence>_<frame>_pred.png."""
    return f"{name.removesuffix(_IMAGE_ENDING)}_pred.png"


def write(path: Path, content: bytes) -> None:
    """Write a file, its folder with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _batches(
    images: list[ImageFile], predictor: Predictor, problems: list[str], progress: Callable[[], None]
) -> Iterator[list[tuple[ImageFile, Array]]]:
    """Neighbours of one size, as many as the predictor takes at once; what cannot be read goes to `problems`."""
    batch: list[tuple[ImageFile, Array]] = []
    for file, read in in_order(lambda each: read_image(each.path), images):
        try:
            pixels = read.result()
        except DataError as error:
            problems.append(str(error))
            progress()
            continue
        is_full = len(batch) >= predictor.at_once(*pixels.shape[:2])
        if batch and (is_full or batch[0][1].shape != pixels.shape):
            yield batch
            batch = []
        batch.append((file, pixels))
    if batch:
        yield batch


def _legend(class_names: tuple[str, ...], palette: Array, label_ids: Array | None) -> bytes:
    """The classes as CSV: index, name, colour, and Cityscapes' id where it is asked for."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "name", "red", "green", "blue"] + ([] if label_ids is None else ["cityscapes_id"]))
    for index, name in enumerate(class_names):
        rows.writerow([index, name, *palette[index].tolist(), *([] if label_ids is None else [label_ids[index]])])
    return text.getvalue().encode()
