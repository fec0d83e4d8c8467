"""The cache of a split: what it holds, when it is built, and what it does when something is broken."""

import hashlib
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.trainer.data.conftest import NAMES, picture, save
from trainer.data import cache
from trainer.data.cache import CachedSplit, cache_folder, open_cache, weights_folder
from trainer.data.cityscapes import cityscapes_layout
from trainer.data.folders import DataError, read_sample
from trainer.data.resizing import Filters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_weights_lie_below_the_data_unless_told_otherwise_and_below_the_caches_where_data_is_a_url() -> None:
    assert weights_folder(None, data="/d", cache="/c") == Path("/d/weights")
    assert weights_folder("/w", data="s3://b/d", cache="/c") == Path("/w")
    assert weights_folder(None, data="s3://b/d", cache="/c") == Path("/c/weights")


def opened(root: Path, folder: Path, **changes: Any) -> CachedSplit:
    return open_cache(cityscapes_layout(root), "train", **{"height": 8, "width": 16, **changes}, folder=folder)


def test_a_cache_holds_what_reading_gives(cityscapes: Callable[..., Path], folder: Path) -> None:
    root = cityscapes()
    layout, cached = cityscapes_layout(root), opened(root, folder)
    assert (cached.names, len(cached), cached.class_names) == (NAMES, 3, layout.class_names)
    for index, sample in enumerate(layout.samples("train")):
        image, label = read_sample(layout, sample, height=8, width=16)
        np.testing.assert_array_equal(cached.image(index), image)
        np.testing.assert_array_equal(cached.label(index), label)


def test_unlabelled_samples_have_labels_full_of_the_ignored_value(
    cityscapes: Callable[..., Path], folder: Path
) -> None:
    cached = opened(cityscapes(unlabeled=NAMES[1:2]), folder)
    assert cached.has_label.tolist() == [True, False, True]
    assert (cached.label(1) == 255).all()
    assert cached.labels([1, 0])[0].min() == 255
    table = pa.ipc.open_file(pa.memory_map(str(cached.path))).read_all()
    assert table.column("label").is_null().to_pylist() == [False, True, False]


def test_reads_are_views_of_the_file_and_copies_on_request(cityscapes: Callable[..., Path], folder: Path) -> None:
    before = pa.total_allocated_bytes()
    cached = opened(cityscapes(), folder)
    image, label = cached.image(0), cached.label(0)
    assert pa.total_allocated_bytes() == before
    assert np.shares_memory(image, cached.image(0))
    assert np.shares_memory(label, cached.label(0))
    assert not image.flags.owndata
    assert not image.flags.writeable
    copies = cached.images(np.array([2, 0]))
    assert copies.flags.writeable
    np.testing.assert_array_equal(copies[1], image)
    assert cached.images([]).shape == (0, 8, 16, 3)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_sample_that_is_not_there_is_an_index_error(
    cityscapes: Callable[..., Path], folder: Path, index: int
) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of 3"):
        opened(cityscapes(), folder).image(index)


def test_small_record_batches_change_no_pixel(
    cityscapes: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cityscapes(unlabeled=NAMES[1:2])
    one = opened(root, folder / "one")
    monkeypatch.setattr(cache, "_BATCH_BYTES", 2 * 8 * 16 * 4)
    many = opened(root, folder / "many")
    assert pa.ipc.open_file(pa.memory_map(str(many.path))).num_record_batches == 3  # two rows, one row, the closing one
    assert many.digest == one.digest
    np.testing.assert_array_equal(many.images(range(3)), one.images(range(3)))
    np.testing.assert_array_equal(many.labels(range(3)), one.labels(range(3)))


def test_a_cache_is_built_once_and_reports_its_progress(cityscapes: Callable[..., Path], folder: Path) -> None:
    layout, calls = cityscapes_layout(cityscapes()), list[tuple[int, int]]()
    for _ in range(2):
        open_cache(layout, "train", height=8, width=16, folder=folder, progress=lambda *c: calls.append(c))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_size_split_classes_and_files_have_caches_of_their_own(cityscapes: Callable[..., Path], folder: Path) -> None:
    root = cityscapes()
    cityscapes("val")
    paths = {opened(root, folder).path, opened(root, folder, height=16).path}
    paths.add(open_cache(cityscapes_layout(root), "val", height=8, width=16, folder=folder).path)
    few = cityscapes_layout(root, class_names=("road",))
    paths.add(open_cache(few, "train", height=8, width=16, folder=folder).path)
    file = root / f"leftImg8bit/train/{NAMES[0]}_leftImg8bit.png"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    paths.add(opened(root, folder).path)
    assert len(paths) == 5


def test_the_digest_follows_pixels_and_not_files(cityscapes: Callable[..., Path], folder: Path, tmp_path: Path) -> None:
    root = cityscapes()
    first = opened(root, folder)
    moved = opened(shutil.copytree(root, tmp_path / "moved", copy_function=shutil.copyfile), folder)
    assert moved.path != first.path
    assert moved.digest == first.digest
    save(root / f"leftImg8bit/train/{NAMES[0]}_leftImg8bit.png", picture(16, 32, seed=9))
    assert opened(root, folder).digest != first.digest
    cityscapes(unlabeled=NAMES[:1])
    (root / f"gtFine/train/{NAMES[0]}_gtFine_labelIds.png").unlink()
    assert opened(root, folder).digest != first.digest


def test_the_default_filters_keep_the_key_and_the_file_of_caches_built_before_there_was_a_choice(
    cityscapes: Callable[..., Path], folder: Path
) -> None:
    root = cityscapes()
    layout = cityscapes_layout(root)

    def stamp(file: Path | None) -> tuple[str, int, int] | None:
        return file and (str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns)

    content = {
        "version": 1,
        "layout": "cityscapes",
        "classes": layout.class_names,
        "label_table": layout.label_table.tobytes().hex(),
        "split": "train",
        "size": (8, 16),
        "resize": "image: PIL bilinear, antialiased; label: PIL nearest",
        "samples": [(s.name, stamp(s.image), stamp(s.label)) for s in layout.samples("train")],
    }
    key = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    assert opened(root, folder).path.name == f"cityscapes-train-8x16-{key[:16]}.arrow"


def test_filters_have_caches_of_their_own_with_names_that_tell(cityscapes: Callable[..., Path], folder: Path) -> None:
    root = cityscapes()
    choices = [Filters(), Filters("box"), Filters(label="majority"), Filters("box", "majority")]
    caches = [opened(root, folder, filters=filters) for filters in choices]
    names = [cached.path.name.rpartition("-")[0] for cached in caches]
    start = "cityscapes-train-8x16"
    assert names == [start, f"{start}-box-nearest", f"{start}-bilinear-majority", f"{start}-box-majority"]
    assert len({cached.path.name.rpartition("-")[2] for cached in caches}) == 4


def test_a_cache_holds_what_its_filters_give(cityscapes: Callable[..., Path], folder: Path) -> None:
    root, filters = cityscapes(), Filters("box", "majority")
    layout, cached = cityscapes_layout(root), opened(root, folder, filters=filters)
    image, label = read_sample(layout, layout.samples("train")[1], height=8, width=16, filters=filters)
    np.testing.assert_array_equal(cached.image(1), image)
    np.testing.assert_array_equal(cached.label(1), label)
    assert not np.array_equal(image, opened(root, folder).image(1))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_cut_cache_is_built_again_with_a_warning(
    cityscapes: Callable[..., Path], folder: Path, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    root = cityscapes()
    path, digest = opened(root, folder).path, opened(root, folder).digest
    os.truncate(path, int(path.stat().st_size * kept))
    with caplog.at_level(logging.WARNING):
        again = opened(root, folder)
    assert (again.path, again.digest) == (path, digest)
    assert f"{path} is cut off or damaged" in caplog.text


def test_a_cache_of_another_key_under_the_same_name_is_not_believed(
    cityscapes: Callable[..., Path], folder: Path
) -> None:
    root = cityscapes()
    large, small = opened(root, folder, height=16), opened(root, folder)
    small.path.write_bytes(large.path.read_bytes())
    assert opened(root, folder).image(0).shape == (8, 16, 3)


BUILD = """
import sys, time
from pathlib import Path
from trainer.data.cache import open_cache
from trainer.data.cityscapes import cityscapes_layout
calls = []
def slowly(done, total):
    calls.append(done)
    time.sleep(0.2)
cached = open_cache(cityscapes_layout(Path(sys.argv[1])), "train", height=8, width=16, folder=Path(sys.argv[2]),
                    progress=slowly)
print(len(calls), len(cached), cached.digest)
"""


def test_two_processes_build_one_cache(cityscapes: Callable[..., Path], folder: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(cityscapes()), str(folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = sorted(process.communicate()[0].split() for process in both)
    assert [answer[:2] for answer in answers] == [["0", "3"], ["3", "3"]]
    assert answers[0][2] == answers[1][2]


def test_what_a_killed_builder_left_is_removed_and_its_lock_is_free(
    cityscapes: Callable[..., Path], folder: Path
) -> None:
    root = cityscapes()
    path = opened(root, folder).path
    path.rename(path.with_name(f".{path.name}.12345678.part"))
    assert path.with_suffix(".lock").exists()
    assert opened(root, folder).path == path
    assert sorted(file.suffix for file in folder.iterdir()) == [".arrow", ".lock"]


def test_unusable_files_are_all_named_and_leave_no_cache(cityscapes: Callable[..., Path], folder: Path) -> None:
    root = cityscapes()
    image = root / f"leftImg8bit/train/{NAMES[0]}_leftImg8bit.png"
    image.write_bytes(image.read_bytes()[:500])
    label = save(root / f"gtFine/train/{NAMES[2]}_gtFine_labelIds.png", np.full((16, 32), 77, np.uint8))
    with pytest.raises(DataError, match="2 files cannot be used") as caught:
        opened(root, folder)
    assert str(image) in str(caught.value)
    assert f"{label} holds the value 77" in str(caught.value)
    assert [file.suffix for file in folder.iterdir()] == [".lock"]


def test_at_most_twenty_unusable_files_are_named(cityscapes: Callable[..., Path], folder: Path) -> None:
    root = cityscapes(names=tuple(f"x/{number:02d}" for number in range(30)))
    for file in (root / "leftImg8bit").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="at least 20 files") as caught:
        opened(root, folder)
    assert len(str(caught.value).splitlines()) == 21


def test_a_full_disk_is_told_before_starting(
    cityscapes: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000, 9_000, 1_000))
    monkeypatch.setattr(cache, "_write", None)
    with pytest.raises(OSError, match=r"cannot write .*\.arrow .*bytes needed, 1,000 bytes free.*MIXGRID_CACHE"):
        opened(cityscapes(), folder)


def test_a_write_that_fails_names_path_and_room_and_leaves_nothing(
    cityscapes: Callable[..., Path], folder: Path
) -> None:
    root, (soft, hard) = cityscapes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OSError, match=r"\.arrow .*bytes needed, .*bytes free.*File too large"):
            opened(root, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.suffix for file in folder.iterdir()] == [".lock"]


def test_a_cache_folder_that_cannot_be_made_is_named(cityscapes: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"cache folder .*file/cache.*MIXGRID_CACHE"):
        opened(cityscapes(), tmp_path / "file/cache")


def test_the_cache_folder_is_the_option_or_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MIXGRID_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(None) == tmp_path / ".cache/mixgrid"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder(None) == Path("/xdg/mixgrid")
    monkeypatch.setenv("MIXGRID_CACHE", "~/mine")
    assert cache_folder(None) == tmp_path / "mine"
    assert cache_folder("/given") == Path("/given")
