"""Reading every file of a split before anything is trained on it. Loads neither torch nor ray."""

from contextlib import suppress
from pathlib import Path

from trainer.data.cache import Progress, in_order
from trainer.data.folders import (
    DataError,
    Layout,
    Sample,
    read_image,
    read_label,
    refuse_other_size,
    refuse_uneven,
)
from trainer.data.opening import full_size


def check(
    layout: Layout, split: str, *, wants_one_size: bool = False, progress: Progress | None = None
) -> list[tuple[Path, str]]:
    """Read every file of a split at its full size.

    Args:
        wants_one_size: every image must be as large as the first, since the split is judged at full size.
    Returns: (file, what is wrong) for every unusable one, in order of names; [] where all is well.
    Raises: DataError where the split cannot even be listed.
    """
    samples, found, size = layout.samples(split), list[tuple[Path, str]](), None
    if wants_one_size:
        with suppress(DataError):  # said of the first image below
            size = full_size(layout, split)
    futures = in_order(lambda sample: _problems(layout, sample, size), samples)
    for done, (_, problems) in enumerate(futures, start=1):
        found += problems.result()
        if progress is not None:
            progress(done, len(samples))
    return found


def _problems(layout: Layout, sample: Sample, size: tuple[int, int] | None) -> list[tuple[Path, str]]:
    found, image, label = list[tuple[Path, str]](), None, None
    try:
        image = read_image(sample.image)
        if size is not None:
            refuse_uneven(sample, image, height=size[0], width=size[1])
    except DataError as error:
        found.append((sample.image, str(error)))
    if sample.label is None:
        return found
    try:
        label = read_label(layout, sample.label)
        if image is not None:
            refuse_other_size(sample, image, label)
    except DataError as error:
        found.append((sample.label, str(error)))
    return found
