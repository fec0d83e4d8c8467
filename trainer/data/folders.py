"""Folders of images and label maps: finding the files of a split and reading one of them. Loads neither torch nor ray.

A dataset is a `Layout`, a value that says where its files lie and what their stored label values mean. This room knows
no dataset by name; `catalog.py` picks the layout of a spec.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.resizing import AS_STORED, Array, Filters, resize_image, resize_label

IGNORE = 255
"""The class index of a pixel that counts nowhere."""
UNKNOWN = 254
"""The entry of a label table for a stored value that no file of the dataset may hold."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
WHERE_TO_CHANGE = "--data or MIXGRID_DATA says where the data lies"
# Its content decides how a file is read, not its name: only formats that run nothing, and for labels none with losses.
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
_LABEL_FORMATS = ("PNG", "TIFF", "BMP", "GIF")
_STRETCHED = re.compile(r"\b[1L];(2|4|I)")  # as PIL names grey values of 2 or 4 bits, or inverted ones
_ONE_VALUE_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


class DataError(ValueError):
    """Data that cannot be used as it lies there: names the file or folder, what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a split; `label` is None where it has no label file."""

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the files of a dataset lie and what the values in its label files mean.

    `images` and `labels` are folders below `root` in which "{split}" stands for the split. The image of a sample is
    `<images>/<name><image_ending>` plus one of IMAGE_SUFFIXES, its label `<labels>/<name><label_ending>`.
    `label_table` [256] uint8 maps a stored value to a class index, IGNORE or UNKNOWN; `palette` [C, 3] uint8 is RGB for
    pictures; `expected_counts` holds the published number of images per split; `remedy` ends the message about a
    label value that is not allowed.
    """

    name: str
    root: Path
    images: str
    labels: str
    label_ending: str
    class_names: tuple[str, ...]
    label_table: Array
    palette: Array
    image_ending: str = ""
    expected_counts: Mapping[str, int] = field(default_factory=dict)
    remedy: str = ""

    def image_folder(self, split: str) -> Path:
        """The folder that holds the images of a split."""
        return self.root / self.images.replace("{split}", split)

    def label_folder(self, split: str) -> Path:
        """The folder that holds the label maps of a split."""
        return self.root / self.labels.replace("{split}", split)

    def samples(self, split: str) -> list[Sample]:
        """The samples of a split, sorted by name; links are followed, hidden files left out.

        Raises: DataError where the folder of images is missing or empty, where not one image has a label, and where
            two images have the same name.
        """
        images, label_folder = self._images_by_name(split), self.label_folder(split)
        label_files = set(files_below(label_folder))
        samples = []
        for name in sorted(images):
            label = f"{name}{self.label_ending}"
            samples.append(Sample(name, images[name], label_folder / label if label in label_files else None))
        if all(sample.label is None for sample in samples):
            raise DataError(
                f"{self.name}: none of the {len(samples)} images in {self.image_folder(split)} has a label: "
                f"{label_folder / (samples[0].name + self.label_ending)} was expected, for one; {WHERE_TO_CHANGE}"
            )
        return samples

    def _images_by_name(self, split: str) -> dict[str, Path]:
        folder, images = self.image_folder(split), dict[str, Path]()
        holds_labels = folder == self.label_folder(split)
        for file in files_below(folder):
            stem, dot, suffix = file.rpartition(".")
            is_image = f"{dot}{suffix}".lower() in IMAGE_SUFFIXES and stem.endswith(self.image_ending)
            if not is_image or (holds_labels and file.endswith(self.label_ending)):
                continue
            name = stem.removesuffix(self.image_ending)
            if name in images:
                raise DataError(f"{images[name]} and {folder / file} have the same name {name!r}: keep one of them")
            images[name] = folder / file
        if not images:
            found = "holds no" if folder.is_dir() else "does not exist: it should hold"
            raise DataError(
                f"{self.name}: the folder {folder} {found} images named *{self.image_ending} with one of the endings "
                f"{', '.join(IMAGE_SUFFIXES)}; {WHERE_TO_CHANGE}"
            )
        return images

    def count_remark(self, split: str, num_images: int) -> str | None:
        """One line for a person where a split has another number of images than was published, else None."""
        expected = self.expected_counts.get(split, num_images)
        if expected == num_images:
            return None
        return f"{self.name}/{split} has {num_images} images in {self.image_folder(split)}; {expected} were published"


def files_below(folder: Path) -> list[str]:
    """Paths of all files below `folder`, relative to it, with forward slashes; [] where there is no such folder."""
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        within = Path(parent).relative_to(folder)
        files += [(within / name).as_posix() for name in names if not name.startswith(".")]
    return files


# --- what stored values mean --------------------------------------------------------------------------------------


def label_table(class_ids: Mapping[int, int], ignored: Iterable[int]) -> Array:
    """Build a label table.

    Args:
        class_ids: stored value in 0..255 -> class index.
        ignored: stored values that are legal and count nowhere.
    Returns: [256] uint8; UNKNOWN for every value that neither names.
    """
    table = np.full(256, UNKNOWN, np.uint8)
    table[list(ignored)] = IGNORE
    for stored, index in class_ids.items():
        table[stored] = index
    table.setflags(write=False)
    return table


def allowed_values(table: Array) -> str:
    """The stored values a label table allows, for a person: "0..33, 255"."""
    allowed, runs = np.flatnonzero(table != UNKNOWN), []
    for run in np.split(allowed, np.flatnonzero(np.diff(allowed) > 1) + 1):
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}")
    return ", ".join(runs)


# --- reading ------------------------------------------------------------------------------------------------------


def read_image(path: Path) -> Array:
    """Read one image at its full size; grey and palette images become RGB, an EXIF orientation is not applied.

    Returns: [H, W, 3] uint8, RGB.
    Raises: DataError that names a file which is missing, cut off or damaged, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path, formats=_IMAGE_FORMATS) as file:
            mode = file.mode
            file.load()
            file.info.pop("transparency", None)  # it would be dropped anyway, with a warning
            pixels = np.array(file.convert("RGB"))
    except Exception as error:  # PIL raises whatever a damaged file provokes
        raise _unreadable(path, error) from error
    if mode.startswith(("I", "F")):
        raise DataError(f"{path} has more than 8 bits a channel (mode {mode}): convert it to 8-bit RGB or grey")
    return pixels


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image, from its header. Raises: DataError that names a file which cannot be read."""
    try:
        with Image.open(path, formats=_IMAGE_FORMATS) as file:
            return file.height, file.width
    except Exception as error:  # PIL raises whatever a damaged file provokes
        raise _unreadable(path, error) from error


def read_label(layout: Layout, path: Path) -> Array:
    """Read one label map at its full size.

    Returns: [H, W] uint8, class indices after the label table, IGNORE where a pixel does not count.
    Raises: DataError as `read_stored_label`.
    """
    classes: Array = layout.label_table[read_stored_label(layout, path)]
    return classes


def read_stored_label(layout: Layout, path: Path) -> Array:
    """Read the values of one label map at its full size as they are stored: [H, W] uint8.

    Raises: DataError that names a file which is missing, cut off or damaged, has colours instead of one value a pixel,
        of a format with losses, with values that reading would change, or holds a value outside the class list.
    """
    try:
        with Image.open(path, formats=_LABEL_FORMATS) as file:
            is_stretched = any(_STRETCHED.search(str(tile)) for tile in getattr(file, "tile", ()))
            mode, stored = file.mode, np.array(file)
    except Exception as error:  # PIL raises whatever a damaged file provokes
        raise _unreadable(path, error) from error
    if is_stretched:
        raise DataError(f"{path} stores its values in 2 or 4 bits or inverted, which reading would change: use 8 bits")
    if mode not in _ONE_VALUE_MODES:
        raise DataError(f"{path} has mode {mode}: a label map has one channel, a class value per pixel, not colours")
    outside = (stored < 0) | (stored > 255) if stored.dtype.itemsize > 1 else np.zeros(stored.shape, bool)
    values = np.where(outside, 0, stored).astype(np.uint8)
    unknown = outside | (layout.label_table[values] == UNKNOWN)
    if unknown.any():
        named = ", ".join(str(value) for value in np.unique(stored[unknown])[:8])
        raise DataError(
            f"{path} holds the value {named} at {unknown.sum()} of {unknown.size} pixels; label files of "
            f"{layout.name} may hold {allowed_values(layout.label_table)}{layout.remedy and f' ({layout.remedy})'}"
        )
    return values


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read (missing, cut off, damaged, of another format?): {error}")


def read_sample(
    layout: Layout, sample: Sample, *, height: int, width: int, filters: Filters = Filters()
) -> tuple[Array, Array | None]:
    """Read one sample and bring it to a size; a label is resized as it is stored, then its values become classes.

    Returns: image [height, width, 3] uint8, label [height, width] uint8 or None where the sample has no label.
    Raises: DataError as read_image and read_label, where image and label differ in size, and where nothing is to be
        resized and the image has another size.
    """
    image = read_image(sample.image)
    if filters == AS_STORED:
        refuse_uneven(sample, image, height=height, width=width)
    small_image = resize_image(image, height=height, width=width, rule=filters.image)
    if sample.label is None:
        return small_image, None
    stored = read_stored_label(layout, sample.label)
    refuse_other_size(sample, image, stored)
    label: Array = layout.label_table[resize_label(stored, height=height, width=width, rule=filters.label)]
    return small_image, label


def refuse_uneven(sample: Sample, image: Array, *, height: int, width: int) -> None:
    """Raises: DataError where an image has not the full size that its split is judged at, with the cure."""
    if image.shape[:2] != (height, width):
        raise DataError(
            f"{sample.image} is {image.shape[0]}x{image.shape[1]}, the first image of its split {height}x{width} "
            "(height x width): judging at full size wants one size; use --set evaluation.protocol=resized"
        )


def refuse_other_size(sample: Sample, image: Array, label: Array) -> None:
    """Raises: DataError where a label map is not as large as its image; both at their full size."""
    if label.shape != image.shape[:2]:
        sizes = f"{label.shape[0]}x{label.shape[1]}, its image {image.shape[0]}x{image.shape[1]}"
        raise DataError(f"{sample.label} is {sizes} (height x width, {sample.image}): they must be equal")
