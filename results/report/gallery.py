"""Pictures in the order in which one compares them: an image, its truth, then every row; and how each method mixes."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from results.report.parts import PictureLike

_JUDGED = ("image", "truth", "prediction", "error")
_WORDS = {
    "image": "the image",
    "truth": "its true classes",
    "prediction": "classes as predicted",
    "error": "where the prediction errs",
    "mask": "the mask: white keeps image a",
    "mix": "the mixed image",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture with its caption and the same in words; `source` holds it whole."""

    caption: str
    words: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures that belong together, in rows: (row's label or "", its pictures)."""

    title: str
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]


def judged_strips(pictures: Sequence[PictureLike]) -> Iterator[Strip]:
    """One strip for each evaluation image: image and truth, then prediction and error map of every row."""
    judged = [picture for picture in pictures if picture.kind in _JUDGED]
    for name in dict.fromkeys(picture.image_name for picture in judged):
        yield Strip(name, _rows([picture for picture in judged if picture.image_name == name]))


def mixing_strips(pictures: Sequence[PictureLike]) -> Iterator[Strip]:
    """One strip with what every method makes of a pair of images; nothing where no picture shows it."""
    mixed = [picture for picture in pictures if picture.kind not in _JUDGED]
    if mixed:
        yield Strip("Mixing", _rows(mixed))


def _rows(pictures: Sequence[PictureLike]) -> tuple[tuple[str, tuple[Shown, ...]], ...]:
    labels = dict.fromkeys(picture.row for picture in pictures)
    return tuple((row, tuple(_shown(picture) for picture in pictures if picture.row == row)) for row in labels)


def _shown(picture: PictureLike) -> Shown:
    of_row = f" by {picture.row}" if picture.row else ""
    words = f"{_WORDS.get(picture.kind, picture.kind)}{of_row}, {picture.image_name}"
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    return Shown(picture.title, words, picture.kind, source)
