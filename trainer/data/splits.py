"""Which images of a training split are labelled: drawn by a seed or taken from a list. Loads neither torch nor ray."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from trainer.data.folders import IMAGE_SUFFIXES, DataError
from trainer.spec import TrialSpec, count_labeled

UnlabeledPool = Literal["remainder", "all"]


@dataclass(frozen=True, slots=True)
class Split:
    """The labelled and the unlabelled names of a training split, both sorted, none twice."""

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over both lists of names."""
        text = "\n".join(("labeled", *self.labeled, "", "unlabeled", *self.unlabeled))
        return hashlib.sha256(text.encode()).hexdigest()


def draw_split(
    names: Collection[str],
    label_fraction: Fraction,
    split_seed: int | None,
    unlabeled_pool: UnlabeledPool = "remainder",
    *,
    names_without_label: Collection[str] = (),
) -> Split:
    """Draw the labelled images: of the sorted names, permuted by the seed, the first ceil(fraction x N).

    A larger fraction at the same seed contains the smaller one.

    Args:
        names: the images that have a label, in any order; N counts these.
        label_fraction: in (0, 1]; at 1 all `names` are labelled.
        split_seed: in 0..2**32 - 1; None at fraction 1, where nothing is drawn.
        unlabeled_pool: "remainder" leaves the labelled images out, "all" holds every image.
        names_without_label: images that can never be labelled and always belong to the pool.
    Raises: DataError for no names or a name given twice, ValueError for a seed that does not fit the fraction.
    Source: French et al. 2020, arXiv:1906.01916, code datapipe/datasets.py: RandomState(seed).permutation over sorted
        names. Their seeds 12345, 23456, 34567, 45678, 56789 and pool "all" give their splits. Differs: both lists are
        sorted here, since a split is its two sets.
    """
    ordered = _refuse_doubles(names, names_without_label)
    if (split_seed is None) != (label_fraction == 1):
        raise ValueError(
            f"split_seed {split_seed} at label_fraction {label_fraction}: below 1 a seed is needed, at 1 none"
        )
    if split_seed is None:
        return _divide(ordered, ordered, unlabeled_pool, names_without_label)
    order = np.random.RandomState(split_seed).permutation(len(ordered))
    labeled = [ordered[index] for index in order[: count_labeled(label_fraction, len(ordered))]]
    return _divide(ordered, labeled, unlabeled_pool, names_without_label)


def listed_split(
    names: Collection[str],
    labeled_names: Sequence[str],
    unlabeled_pool: UnlabeledPool = "remainder",
    *,
    names_without_label: Collection[str] = (),
) -> Split:
    """Take the labelled images from a list, such as another project's; the arguments are those of draw_split.

    Raises: DataError that lists names which are not there, have no label or stand twice in the list.
    """
    ordered = _refuse_doubles(names, names_without_label)
    wanted = _refuse_doubles(labeled_names, ())
    missing = sorted(set(wanted) - set(ordered) - set(names_without_label))
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(wanted)} labelled names are not among the {len(ordered)} images with a label: "
            f"{_some(missing)}; names look like {ordered[0]!r} (labeled_names in the spec, or the file it came from)"
        )
    without = sorted(set(wanted) & set(names_without_label))
    if without:
        raise DataError(f"{len(without)} of the labelled names have no label file: {_some(without)}")
    return _divide(ordered, wanted, unlabeled_pool, names_without_label)


def _divide(
    names: Sequence[str], labeled: Sequence[str], pool: UnlabeledPool, names_without_label: Collection[str]
) -> Split:
    chosen = set(labeled)
    rest = names if pool == "all" else [name for name in names if name not in chosen]
    return Split(labeled=tuple(sorted(chosen)), unlabeled=tuple(sorted((*rest, *names_without_label))))


def _refuse_doubles(names: Collection[str], others: Collection[str]) -> list[str]:
    """The sorted `names`. Raises: DataError where there are none, or a name stands twice in both together."""
    if not names:
        raise DataError("there is no name to be labelled: give at least one image that has a label")
    together = sorted((*names, *others))
    doubles = sorted({name for name, after in pairwise(together) if name == after})
    if doubles:
        raise DataError(f"{len(doubles)} names are given twice: {_some(doubles)}")
    return sorted(names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def read_name_list(path: Path) -> tuple[str, ...]:
    """Read names, one a line, in the order of the file; empty lines are left out.

    The lists of other projects are understood: "aachen/aachen_000000_000019" (DST-CBC),
    "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png" (U2PL), and the same followed by the path of the
    label (UniMatch) all mean "aachen/aachen_000000_000019".

    Raises: DataError where the file cannot be read or holds no name.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of names {path} cannot be read: {error}") from error
    names = tuple(_name_of(line.strip()) for line in lines if line.strip())
    if "" in names:
        raise DataError(f"the list of names {path} has a line that names no image")
    if not names:
        raise DataError(f"the list of names {path} is empty: one name a line is wanted")
    return names


def _name_of(line: str) -> str:
    first = line.split()[0]
    path = PurePosixPath(first if first.lower().endswith(IMAGE_SUFFIXES) else line)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    parts = path.parts[2:] if path.parts[:1] == ("leftImg8bit",) else path.parts
    return "/".join(parts).removesuffix("_leftImg8bit")


def split_of(spec: TrialSpec, labelable: Collection[str], names_without_label: Collection[str]) -> Split:
    """The split that a trial's spec asks for: listed, or drawn by its resolved seed.

    Args:
        labelable: names of the training images that have a label.
        names_without_label: names of those that have none.
    Raises: DataError, ValueError as draw_split and listed_split; DataError also where a list is not as long as the
        fraction says, since its numbers would stand in a wrong column.
    """
    if spec.labeled_names is not None:
        wanted = count_labeled(spec.label_fraction, len(labelable))
        if len(spec.labeled_names) != wanted:
            raise DataError(
                f"the list of labelled names has {len(spec.labeled_names)} names, but {spec.label_fraction} of "
                f"{len(labelable)} images is {wanted}: correct labeled_names, or the label fraction of the table"
            )
        return listed_split(labelable, spec.labeled_names, spec.unlabeled_pool, names_without_label=names_without_label)
    return draw_split(
        labelable,
        spec.label_fraction,
        spec.resolved_split_seed,
        spec.unlabeled_pool,
        names_without_label=names_without_label,
    )
