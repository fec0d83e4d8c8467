"""Draws images, class maps and errors as pixels, sheets and PNG files. Knows neither networks nor torch."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.data.folders import IGNORE
from trainer.data.resizing import Array

Panel = tuple[str, Array]
"""A title and its picture, [H, W, 3] uint8."""
WIDTH = 256
"""Pixels that a small picture is wide at most."""
WRONG = (255, 194, 10)
"""The colour of an error: by far the lightest thing in its picture, for whatever kind of sight."""
_DIMMED = 0.4  # of the image's grey where the prediction is right
_VOID_COLOR = (0, 0, 0)
_STRIPES = ((150, 150, 150), (115, 115, 115))
_GAP = 6
_TITLE_HEIGHT = 16


# --- pictures -----------------------------------------------------------------------------------------------------


def colored(class_map: Array, palette: Array) -> Array:
    """Class indices [H, W] in the colours of a palette [C, 3]; IGNORE is black. Returns: [H, W, 3] uint8."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = _VOID_COLOR
    colors: Array = table[class_map]
    return colors


def overlaid(image: Array, class_map: Array, palette: Array) -> Array:
    """Half of the image, half of the colours of its classes; the image alone where IGNORE: [H, W, 3] uint8."""
    both = (image.astype(np.uint16) + colored(class_map, palette) + 1) // 2
    return np.where((class_map == IGNORE)[..., None], image, both).astype(np.uint8)


def errors_on(image: Array, label: Array, prediction: Array) -> Array:
    """Where a prediction is wrong: WRONG there, the image in dark grey where it is right, stripes where none counts.

    Args:
        image: [H, W, 3]; label and prediction: [H, W] class indices, IGNORE in a label counts nowhere. All uint8.
    Returns: [H, W, 3] uint8.
    """
    grey = np.asarray(Image.fromarray(image).convert("L"))
    picture = np.repeat((grey * _DIMMED).astype(np.uint8)[..., None], 3, axis=2)
    picture[is_wrong(label, prediction)] = WRONG
    rows, columns = np.nonzero(label == IGNORE)
    picture[rows, columns] = np.array(_STRIPES, np.uint8)[(rows + columns) // 3 % 2]
    return picture


def is_wrong(label: Array, prediction: Array) -> NDArray[np.bool_]:
    """Where a prediction differs from a label that counts."""
    wrong: NDArray[np.bool_] = (prediction != label) & (label != IGNORE)
    return wrong


def wrong_share(label: Array, prediction: Array) -> float:
    """The share of wrong pixels among those that count; 0 where none does."""
    return float(is_wrong(label, prediction).sum() / max(1, (label != IGNORE).sum()))


def small_image(image: Array) -> Array:
    """An image at no more than WIDTH pixels a row, every pixel counted."""
    return _narrowed(image, Image.Resampling.BILINEAR)


def small_map(class_map: Array) -> Array:
    """A class map at no more than WIDTH pixels a row, no class made up."""
    return _narrowed(class_map, Image.Resampling.NEAREST)


def _narrowed(pixels: Array, filter_: Image.Resampling) -> Array:
    height, width = pixels.shape[:2]
    if width <= WIDTH:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((WIDTH, max(1, round(height * WIDTH / width))), filter_))


# --- files --------------------------------------------------------------------------------------------------------


def png_of(rows: Sequence[Sequence[Panel]], *, scale: int = 1) -> bytes:
    """Draw titled pictures as one PNG; `scale` enlarges each pixel."""
    columns = max(len(row) for row in rows)
    width = scale * max(picture.shape[1] for row in rows for _, picture in row) + _GAP
    heights = [scale * max(picture.shape[0] for _, picture in row) + _TITLE_HEIGHT + _GAP for row in rows]
    sheet = Image.new("RGB", (columns * width + _GAP, sum(heights) + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (title, picture) in enumerate(row):
            left = _GAP + column * width
            pen.text((left, top), _clipped(title, pen, width - _GAP), fill="black")
            enlarged = Image.fromarray(picture.repeat(scale, axis=0).repeat(scale, axis=1))
            sheet.paste(enlarged, (left, top + _TITLE_HEIGHT))
        top += height
    return to_png(np.asarray(sheet))


def sheet_of(rows: Sequence[Sequence[Panel]]) -> bytes:
    """The same, small pictures enlarged so that titles fit above them."""
    return png_of(rows, scale=scale_for(max(picture.shape[1] for row in rows for _, picture in row)))


def _clipped(title: str, pen: ImageDraw.ImageDraw, width: int) -> str:
    """As much of a title as there is room for; signs that no font has become question marks."""
    text = "".join(sign if sign.isprintable() else "?" for sign in title)
    if pen.textlength(text) <= width:
        return text
    while text and pen.textlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def scale_for(width: int) -> int:
    """How much to enlarge pictures of a width so that titles fit above them."""
    return max(1, -(-WIDTH // width))


def to_png(pixels: Array) -> bytes:
    """Pixels, [H, W, 3] or one channel [H, W], as they are in a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def to_small_png(picture: Array) -> bytes:
    """A picture [H, W, 3] as a PNG of 256 colours at most: exact where it has no more, else the nearest."""
    flat, inverse = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
    if len(flat) > 256:
        indexed = Image.fromarray(picture).quantize(256, dither=Image.Dither.NONE)
    else:
        indexed = Image.fromarray(inverse.reshape(picture.shape[:2]).astype(np.uint8))
        indexed.putpalette(flat.tobytes())
    buffer = io.BytesIO()
    indexed.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
