"""What a spec reads: its training split at the trained size, its evaluation split at the size it is judged at.

Loads neither torch nor ray: a split is opened before anything that trains is built.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trainer.data.cache import CachedSplit, find_cache, open_cache
from trainer.data.folders import Layout, image_size
from trainer.data.resizing import AS_STORED, Filters
from trainer.spec import Dataset, TrialSpec

Opener = Callable[[Dataset, Layout, str, Path], CachedSplit]
"""Dataset, its layout, a split and the folder of caches to the cached split."""


def open_resized(dataset: Dataset, layout: Layout, split: str, folder: Path) -> CachedSplit:
    """A split at the trained size; built where it is missing."""
    filters = Filters(dataset.image_filter, dataset.label_filter)
    return open_cache(layout, split, height=dataset.height, width=dataset.width, folder=folder, filters=filters)


def open_full(_dataset: Dataset, layout: Layout, split: str, folder: Path) -> CachedSplit:
    """A split as its files lie there; built where it is missing. Raises: DataError naming images of other sizes."""
    height, width = full_size(layout, split)
    return open_cache(layout, split, height=height, width=width, folder=folder, filters=AS_STORED)


def full_size(layout: Layout, split: str) -> tuple[int, int]:
    """Height and width of the first image of a split, which all must have that are judged at full size."""
    return image_size(layout.samples(split)[0].image)


OPENERS: Mapping[str, Opener] = {"resized": open_resized, "full_whole": open_full, "full_sliding": open_full}
"""Evaluation protocol to how its split is opened."""


def with_splits_of_their_own(specs: Iterable[TrialSpec]) -> list[TrialSpec]:
    """The first spec of each choice of dataset and size to be judged at: all that there is to prepare."""
    found: dict[tuple[str, bool], TrialSpec] = {}
    for spec in specs:
        found.setdefault((spec.dataset.model_dump_json(), spec.evaluation.is_resized), spec)
    return list(found.values())


def open_splits(spec: TrialSpec, layout: Layout, folder: Path) -> tuple[CachedSplit, CachedSplit]:
    """The training and the evaluation split of a spec, built where missing."""
    dataset = spec.dataset
    train = open_resized(dataset, layout, dataset.train_split, folder)
    return train, OPENERS[spec.evaluation.protocol](dataset, layout, dataset.eval_split, folder)


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
