"""Which images are labelled."""

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from trainer.data.folders import DataError
from trainer.data.splits import Split, draw_split, listed_split, read_name_list

NAMES = [f"city/{number:04d}" for number in range(2975)]
PINNED = [1687, 2342, 392]
FRENCH_SEEDS = (12345, 23456, 34567, 45678, 56789)


@pytest.mark.parametrize(("fraction", "count"), [("1/30", 100), ("1/8", 372), ("1/4", 744), ("1/2", 1488)])
def test_cityscapes_fractions_give_the_published_counts(fraction: str, count: int) -> None:
    split = draw_split(NAMES, Fraction(fraction), 0)
    assert len(split.labeled) == count
    assert len(split.unlabeled) == 2975 - count
    assert not set(split.labeled) & set(split.unlabeled)


@pytest.mark.parametrize("seed", FRENCH_SEEDS)
def test_the_seeds_of_french_et_al_give_their_splits(seed: int) -> None:
    order = np.random.RandomState(seed).permutation(2975)
    split = draw_split(NAMES, Fraction(1, 8), seed, "all")
    assert split.labeled == tuple(sorted(NAMES[index] for index in order[:372]))
    assert split.unlabeled == tuple(NAMES)


def test_one_french_split_is_pinned() -> None:
    # First entries of the permutation of 2975 by seed 12345, noted once: NumPy promises that RandomState never changes.
    assert np.random.RandomState(12345).permutation(2975)[:3].tolist() == PINNED
    assert set(draw_split(NAMES, Fraction(3, 2975), 12345).labeled) == {NAMES[index] for index in PINNED}


def test_a_larger_fraction_contains_the_smaller() -> None:
    parts = [set(draw_split(NAMES, Fraction(part), 7).labeled) for part in ("1/30", "1/8", "1/4", "1/2")]
    for smaller, larger in pairwise(parts):
        assert smaller < larger


def test_the_order_of_the_given_names_changes_nothing() -> None:
    assert draw_split(NAMES[::-1], Fraction(1, 4), 3) == draw_split(NAMES, Fraction(1, 4), 3)
    assert draw_split(NAMES, Fraction(1, 4), 3) != draw_split(NAMES, Fraction(1, 4), 4)


def test_at_fraction_one_all_are_labelled_and_no_seed_is_wanted() -> None:
    split = draw_split(NAMES[::-1], Fraction(1), None)
    assert split == Split(labeled=tuple(NAMES), unlabeled=())
    assert draw_split(NAMES, Fraction(1), None, "all").unlabeled == tuple(NAMES)
    for fraction, seed in ((Fraction(1), 0), (Fraction(1, 2), None)):
        with pytest.raises(ValueError, match="split_seed"):
            draw_split(NAMES, fraction, seed)


@pytest.mark.parametrize("pool", ["remainder", "all"])
def test_images_without_a_label_are_never_labelled_and_always_in_the_pool(pool: str) -> None:
    split = draw_split(NAMES[:20], Fraction(1, 8), 1, pool, names_without_label=("a", "z"))  # type: ignore[arg-type]
    assert len(split.labeled) == 3
    assert {"a", "z"} <= set(split.unlabeled)
    assert len(split.unlabeled) == (22 if pool == "all" else 19)
    assert draw_split(NAMES, Fraction(1), None, names_without_label=("z",)).unlabeled == ("z",)


def test_the_digest_tells_splits_apart() -> None:
    splits = [draw_split(NAMES[:9], Fraction(1, 3), seed) for seed in range(5)]
    splits += [Split(("a",), ("b",)), Split(("a", "b"), ()), Split((), ("a", "b"))]
    assert len({split.digest for split in splits}) == len(set(splits))
    assert Split(("a",), ("b",)).digest == Split(("a",), ("b",)).digest


def test_no_names_and_double_names_are_refused() -> None:
    with pytest.raises(DataError, match="no name"):
        draw_split([], Fraction(1), None)
    with pytest.raises(DataError, match="twice: a"):
        draw_split(["a", "b"], Fraction(1, 2), 0, names_without_label=["a"])


def test_a_listed_split_takes_the_list() -> None:
    split = listed_split(["c", "a", "b"], ["c", "a"], names_without_label=["d"])
    assert split == Split(labeled=("a", "c"), unlabeled=("b", "d"))
    assert listed_split(["c", "a", "b"], ["a"], "all").unlabeled == ("a", "b", "c")


def test_a_listed_name_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"2 of the 3 labelled names .* x, y; names look like 'a'"):
        listed_split(["a", "b"], ["a", "y", "x"])
    with pytest.raises(DataError, match="have no label file: d"):
        listed_split(["a"], ["d"], names_without_label=["d"])
    with pytest.raises(DataError, match="twice: a"):
        listed_split(["a"], ["a", "a"])


@pytest.mark.parametrize(
    "line",
    [
        "aachen/aachen_000000_000019",
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png gtFine/train/aachen/"
        "aachen_000000_000019_gtFine_labelTrainIds.png",
    ],
)
def test_name_lists_of_other_projects_are_understood(tmp_path: Path, line: str) -> None:
    (tmp_path / "list.txt").write_bytes(f"{line}\r\n\r\n  {line.replace('19', '20')}\n".encode())
    names = read_name_list(tmp_path / "list.txt")
    assert names == ("aachen/aachen_000000_000019", "aachen/aachen_000000_000020")


def test_a_name_may_hold_spaces_and_dots(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("my frame 1\nv1.2/frame.a\nframe.jpg\n")
    assert read_name_list(tmp_path / "list.txt") == ("my frame 1", "v1.2/frame.a", "frame")


def test_a_missing_and_an_empty_list_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(DataError, match=name):
            read_name_list(tmp_path / name)


def test_the_rooms_of_data_load_neither_torch_nor_ray_nor_pandas() -> None:
    rooms = "trainer.data.splits, trainer.data.catalog, trainer.data.cache, trainer.data.synthetic"
    code = f"import sys, {rooms}; sys.exit(str({{'torch', 'ray', 'pandas', 'mlflow'}} & set(sys.modules) or ''))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == ""
