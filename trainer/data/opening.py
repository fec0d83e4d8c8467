"""What a spec reads: its training split at the trained size, its evaluation split at the size it is judged at.

Data are a folder of images, or a place of published caches (`published.py`): a folder or a URL. Loads neither torch
nor ray: a split is opened before anything that trains is built.
"""

from collections.abc import Iterable
from pathlib import Path

from trainer.data.cache import CachedSplit, find_cache, open_cache
from trainer.data.catalog import open_layout
from trainer.data.folders import Layout, image_size
from trainer.data.published import Wanted, find_copy, is_published, open_copy
from trainer.data.resizing import AS_STORED, Filters
from trainer.spec import TrialSpec


def wanted_splits(spec: TrialSpec) -> tuple[Wanted, Wanted]:
    """The training split of a spec, and the split it is judged on."""
    dataset = spec.dataset
    train = Wanted(dataset, dataset.train_split)
    return train, Wanted(dataset, dataset.eval_split, is_full=not spec.evaluation.is_resized)


def open_wanted(wanted: Wanted, data: str | Path, folder: Path) -> CachedSplit:
    """A split, built in the folder of caches from a folder of images, or copied to it from a published place.

    Raises: DataError naming images of other sizes where they are wanted at their full size.
    """
    if is_published(data):
        return open_copy(wanted, str(data), folder)
    layout = open_layout(wanted.dataset, Path(data))
    if wanted.is_full:
        height, width = full_size(layout, wanted.split)
        return open_cache(layout, wanted.split, height=height, width=width, folder=folder, filters=AS_STORED)
    dataset = wanted.dataset
    filters = Filters(dataset.image_filter, dataset.label_filter)
    return open_cache(layout, wanted.split, height=dataset.height, width=dataset.width, folder=folder, filters=filters)


def full_size(layout: Layout, split: str) -> tuple[int, int]:
    """Height and width of the first image of a split, which all must have that are judged at full size."""
    return image_size(layout.samples(split)[0].image)


def with_splits_of_their_own(specs: Iterable[TrialSpec]) -> list[TrialSpec]:
    """The first spec of each choice of dataset and size to be judged at: all that there is to prepare."""
    found: dict[tuple[str, bool], TrialSpec] = {}
    for spec in specs:
        found.setdefault((spec.dataset.model_dump_json(), spec.evaluation.is_resized), spec)
    return list(found.values())


def open_splits(spec: TrialSpec, data: str | Path, folder: Path) -> tuple[CachedSplit, CachedSplit]:
    """The training and the evaluation split of a spec, built or copied where missing."""
    train, judged = wanted_splits(spec)
    return open_wanted(train, data, folder), open_wanted(judged, data, folder)


def find_splits(spec: TrialSpec, layout: Layout, folder: Path) -> tuple[CachedSplit, CachedSplit] | None:
    """What `open_splits` would open, without building anything; None where one of the two would have to be built.

    Raises: DataError where the files of a split cannot be listed.
    """
    dataset, filters = spec.dataset, Filters(spec.dataset.image_filter, spec.dataset.label_filter)
    height, width = dataset.height, dataset.width
    train = find_cache(layout, dataset.train_split, height=height, width=width, folder=folder, filters=filters)
    if train is None:
        return None
    if not spec.evaluation.is_resized:
        (height, width), filters = full_size(layout, dataset.eval_split), AS_STORED
    judged = find_cache(layout, dataset.eval_split, height=height, width=width, folder=folder, filters=filters)
    return None if judged is None else (train, judged)


def find_copies(spec: TrialSpec, data: str, folder: Path) -> tuple[CachedSplit, CachedSplit] | None:
    """The same for a published place: copies that are here already."""
    train, judged = (find_copy(wanted, data, folder) for wanted in wanted_splits(spec))
    return None if train is None or judged is None else (train, judged)
