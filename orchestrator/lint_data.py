"""Findings that need a look at data and storage: splits, disk, memory. Torch-free; lists names, opens no image."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from experiments.table import Cell
from orchestrator.cost import FULL_SIZE, checkpoint_bytes, kept_bytes, memory_bytes, pool_label_bytes
from orchestrator.finding import Finding
from trainer.data.catalog import open_layout, synthetic_root
from trainer.data.folders import DataError, Layout, Sample
from trainer.data.opening import wanted_splits
from trainer.data.published import Wanted, is_published, read_entry
from trainer.data.resizing import AS_STORED, Filters
from trainer.data.splits import split_of
from trainer.spec import Dataset, Synthetic, TrialSpec
from trainer.storage import Storage

_SMALL = 2**28  # device memory below this is nobody's worry


@dataclass(frozen=True, slots=True)
class Listed:
    """The samples of a training split, or why they could not be listed."""

    samples: tuple[Sample, ...] = ()
    problem: str = ""


class DataOnDisk:
    """What a data folder holds of the datasets of a table; each split is listed once, nothing is drawn or built."""

    def __init__(self, folder: str) -> None:
        self.place = folder
        self.folder = Path(folder).expanduser()
        self._layouts: dict[Dataset, Layout | str] = {}
        self._listed: dict[tuple[str, str, str], Listed] = {}

    def layout(self, spec: TrialSpec) -> Layout | str:
        """The layout of a spec's dataset, or why there is none yet."""
        if spec.dataset not in self._layouts:
            self._layouts[spec.dataset] = self._open(spec.dataset)
        return self._layouts[spec.dataset]

    def _open(self, dataset: Dataset) -> Layout | str:
        if is_published(self.place):
            return f"{Storage(self.place).name} holds published caches, no images"
        try:
            if isinstance(dataset, Synthetic) and not synthetic_root(dataset, self.folder).is_dir():
                return f"the scenes of {dataset.kind} are not drawn yet in {self.folder}"
            return open_layout(dataset, self.folder)
        except (ValueError, OSError) as error:
            return str(error)

    def listed(self, spec: TrialSpec, split: str) -> Listed:
        """The samples of a split of a spec's dataset; those of a published one by their names alone."""
        if is_published(self.place):
            return self._published(next(wanted for wanted in wanted_splits(spec) if wanted.split == split))
        layout = self.layout(spec)
        if isinstance(layout, str):
            return Listed(problem=layout)
        key = (str(layout.image_folder(split)), str(layout.label_folder(split)), layout.label_ending)
        if key not in self._listed:
            try:
                self._listed[key] = Listed(tuple(layout.samples(split)))
            except (DataError, OSError) as error:
                self._listed[key] = Listed(problem=str(error))
        return self._listed[key]

    def _published(self, wanted: Wanted) -> Listed:
        key = (self.place, wanted.entry, "")
        if key not in self._listed:
            try:
                entry = read_entry(Storage(self.place), wanted)
                bare = set(entry.without_label)
                samples = (Sample(n, Path(n), None if n in bare else Path(n)) for n in entry.names)
                self._listed[key] = Listed(tuple(samples))
            except (ValueError, OSError) as error:
                self._listed[key] = Listed(problem=str(error))
        return self._listed[key]

    def counts(self, spec: TrialSpec) -> tuple[int, int]:
        """Numbers of training and evaluation images: as they lie there, else as published, else 0."""
        return self._count(spec, spec.dataset.train_split), self._count(spec, spec.dataset.eval_split)

    def _count(self, spec: TrialSpec, split: str) -> int:
        if isinstance(spec.dataset, Synthetic):
            return spec.dataset.num_train if split == spec.dataset.train_split else spec.dataset.num_eval
        found = len(self.listed(spec, split).samples)
        layout = self.layout(spec)
        return found or (0 if isinstance(layout, str) else layout.expected_counts.get(split, 0))


# --- splits -------------------------------------------------------------------------------------------------------


def of_splits(cells: Sequence[Cell], disk: DataOnDisk) -> Iterator[Finding]:
    """Whether the rows label the same images at each fraction and seed, and a larger fraction the smaller one's too."""
    drawn: dict[tuple[str, Fraction, int], tuple[str, ...]] = {}
    for cell, names in _drawn(cells, disk):
        if isinstance(names, Finding):
            yield names
        else:
            drawn[cell.row, cell.label_fraction, cell.seed] = names
    if not drawn:
        return
    others = list(_other_labels(drawn))
    yield from others
    leaks = list(_not_nested(drawn))
    yield from leaks
    if not others and not leaks:
        counts = {fraction: len(names) for (_, fraction, _), names in drawn.items()}
        listed = ", ".join(f"{counts[fraction]} at {fraction}" for fraction in sorted(counts))
        nested = ", nested over fractions" if len(counts) > 1 else ""
        yield Finding("splits", "told", f"{listed}: the same names in every row{nested} (checked)")


def _drawn(cells: Sequence[Cell], disk: DataOnDisk) -> Iterator[tuple[Cell, tuple[str, ...] | Finding]]:
    known: dict[object, tuple[str, ...] | Finding] = {}
    for cell in cells:
        spec = cell.spec
        listed = disk.listed(spec, spec.dataset.train_split)
        key = (
            listed.samples[:1],
            len(listed.samples),
            spec.label_fraction,
            spec.resolved_split_seed,
            spec.labeled_names,
            listed.problem,
        )
        if key not in known:
            known[key] = _labeled_names(spec, listed)
        yield cell, known[key]


def _labeled_names(spec: TrialSpec, listed: Listed) -> tuple[str, ...] | Finding:
    if listed.problem:
        return Finding("splits", "told", f"not checked whether rows label the same images: {listed.problem}")
    labelable = [sample.name for sample in listed.samples if sample.label is not None]
    try:
        return split_of(spec, labelable, [s.name for s in listed.samples if s.label is None]).labeled
    except ValueError as error:
        return Finding("splits", "wrong", f"no split can be drawn: {error}")


def _other_labels(drawn: dict[tuple[str, Fraction, int], tuple[str, ...]]) -> Iterator[Finding]:
    first: dict[tuple[Fraction, int], tuple[str, tuple[str, ...]]] = {}
    for (row, fraction, seed), names in drawn.items():
        reference, expected = first.setdefault((fraction, seed), (row, names))
        if names != expected:
            text = f"at {fraction} they label other images than row {reference}, at equal seeds"
            yield Finding("splits", "wrong", text, (row,))


def _not_nested(drawn: dict[tuple[str, Fraction, int], tuple[str, ...]]) -> Iterator[Finding]:
    for row, seed in dict.fromkeys((row, seed) for row, _, seed in drawn):
        fractions = sorted(fraction for name, fraction, other in drawn if (name, other) == (row, seed))
        for smaller, larger in pairwise(fractions):
            if not set(drawn[row, smaller, seed]) <= set(drawn[row, larger, seed]):
                text = f"the images labelled at {smaller} are not all labelled at {larger}, at equal seeds"
                yield Finding("splits", "wrong", text, (row,))


# --- space --------------------------------------------------------------------------------------------------------


def of_memory(cells: Iterable[Cell]) -> Iterator[Finding]:
    """Device memory of one process for each row, where it is worth a word."""
    most: dict[str, tuple[float, float]] = {}
    for cell in cells:
        needed, recomputing = (memory_bytes(cell.spec, recomputes=recomputes) or 0.0 for recomputes in (False, True))
        most[cell.row] = max(most.get(cell.row, (0.0, 0.0)), (needed, recomputing))
    for row, (needed, recomputing) in most.items():
        if needed > _SMALL:
            text = (
                f"about {needed / 2**30:.1f} GiB of device memory in one process, {recomputing / 2**30:.1f} with "
                "--activation-checkpointing: what its state and a backward pass hold, counted, not measured on a "
                "device; cuDNN's work space comes on top"
            )
            yield Finding("space", "told", text, (row,))


def of_disk(cells: Sequence[Cell], disk: DataOnDisk, storage: Storage, cache: Path) -> Iterator[Finding]:
    """What caches and what trials leave need, against what is free.

    Args:
        cells: those that are not done.
        cache: the folder of image caches.
    """
    if cells:
        if (missing := _cache_bytes(cells, disk, cache)) > 0:
            yield _of_place("image caches", missing, cache, "")
        kept = sum(kept_bytes(cell.spec) or 0.0 for cell in _each_trial(cells))
        running = max(_running_bytes(cell.spec, disk) for cell in cells)
        words = f": {_size(kept)} of weights that stay, {_size(running)} while a trial runs"
        place = Path(storage.locate("trials")) if storage.is_local else None
        yield _of_place("storage", kept + running, place, words)


def _each_trial(cells: Iterable[Cell]) -> Iterable[Cell]:
    return {cell.trial_id: cell for cell in cells}.values()


def _running_bytes(spec: TrialSpec, disk: DataOnDisk) -> float:
    """Two checkpoints are kept while a trial runs, all rounds' labels beside them."""
    return 2 * (checkpoint_bytes(spec) or 0.0) + pool_label_bytes(spec, disk.counts(spec)[0])


def _cache_bytes(cells: Sequence[Cell], disk: DataOnDisk, cache: Path) -> float:
    """Bytes of the caches that are not there yet: four a pixel (image and label)."""
    wanted: dict[str, float] = {}
    for cell in cells:
        for pattern, size in _caches(cell.spec, disk):
            if pattern not in wanted:
                there = sum(path.stat().st_size for path in cache.glob(pattern))
                wanted[pattern] = max(0.0, size - there)
    return sum(wanted.values())


def _caches(spec: TrialSpec, disk: DataOnDisk) -> Iterator[tuple[str, float]]:
    """How the files of a spec's two caches are called, and their bytes; full-size files are taken for Cityscapes'."""
    data = spec.dataset
    num_train, num_eval = disk.counts(spec)
    small = f"{data.height}x{data.width}{Filters(data.image_filter, data.label_filter).suffix}"
    judged, times = (small, 1.0) if spec.evaluation.is_resized else (f"*{AS_STORED.suffix}", FULL_SIZE)
    for split, size, count in ((data.train_split, small, num_train), (data.eval_split, judged, num_eval * times)):
        name = f"{getattr(data, 'name', data.kind)}-{split}-{size}-{'[0-9a-f]' * 16}.arrow"
        yield name, 4.0 * data.height * data.width * count


def _of_place(what: str, needed: float, place: Path | None, words: str) -> Finding:
    if place is None:
        return Finding("space", "told", f"{what}, about {_size(needed)}{words}")
    there = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"{what}, about {_size(needed)}{words}; {_size(free)} free in {there}"
    return Finding("space", "wrong" if needed > free else "told", f"{text}{': too little' if needed > free else ''}")


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.0f} MB"
