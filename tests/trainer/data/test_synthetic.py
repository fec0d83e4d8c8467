"""The synthetic street scenes: pure in their arguments, complete in their classes, whole on disk."""

import hashlib
import json
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.synthetic import (
    CITIES,
    CLASS_NAMES,
    FIRST_INDEX,
    GENERATOR_VERSION,
    LABEL_IDS,
    MARKER,
    PALETTE,
    draw_scene,
    ensure,
)
from trainer.spec import Synthetic

SMALL = Synthetic(scene_height=32, scene_width=64, num_train=5, num_eval=3, scene_seed=7)


def digest(seed: int, index: int) -> str:
    return hashlib.sha256(b"".join(part.tobytes() for part in draw_scene(seed, index, 48, 96))).hexdigest()


def stamps(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic"
    ensure(SMALL, root)
    return root


def test_the_same_arguments_draw_the_same_bytes() -> None:
    assert digest(3, 5) == digest(3, 5)


def test_another_process_draws_the_same_bytes_and_loads_no_torch() -> None:
    code = (
        "import hashlib, sys\n"
        "from trainer.data.synthetic import draw_scene\n"
        "print(hashlib.sha256(b''.join(part.tobytes() for part in draw_scene(3, 5, 48, 96))).hexdigest())\n"
        "print(sorted({'torch', 'ray', 'pandas', 'mlflow'} & set(sys.modules)))\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split("\n")[:2] == [digest(3, 5), "[]"]


def test_another_seed_or_index_draws_another_scene() -> None:
    assert len({digest(seed, index) for seed in range(3) for index in range(3)}) == 9


def test_the_global_generator_neither_matters_nor_moves() -> None:
    np.random.seed(0)
    first, after = digest(1, 1), np.random.random()
    np.random.seed(0)
    assert np.random.random() == after
    assert digest(1, 1) == first


@pytest.mark.parametrize("first", [13, FIRST_INDEX["val"]])
def test_every_class_is_drawn_within_twenty_scenes(first: int) -> None:
    seen = {int(c) for index in range(first, first + 20) for c in np.unique(draw_scene(0, index, 32, 64)[1])}
    assert set(range(len(CLASS_NAMES))) <= seen


def test_rare_classes_are_rare_and_common_ones_are_common() -> None:
    labels = [draw_scene(1, index, 32, 64)[1] for index in range(24)]
    shares = {name: np.mean([(label == c).any() for label in labels]) for c, name in enumerate(CLASS_NAMES)}
    assert all(0.15 <= shares[name] <= 0.65 for name in ("bus", "bicycle", "traffic light"))
    assert all(shares[name] >= 0.9 for name in ("road", "sidewalk", "building", "sky", "car"))


def test_labels_are_classes_or_void() -> None:
    for index in range(12):
        label = draw_scene(2, index, 64, 128)[1]
        assert set(np.unique(label).tolist()) <= {*range(len(CLASS_NAMES)), 255}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (33, 65), (64, 128), (256, 512)])
def test_any_size_can_be_drawn(height: int, width: int) -> None:
    for index in range(3):
        image, label = draw_scene(0, index, height, width)
        assert (image.shape, label.shape) == ((height, width, 3), (height, width))
        assert image.dtype == label.dtype == np.uint8


def test_a_scene_keeps_its_plan_at_another_size() -> None:
    for index in range(4):
        small, large = draw_scene(0, index, 64, 128)[1], draw_scene(0, index, 192, 384)[1][1::3, 1::3]
        assert np.mean(small == large) > 0.97


def test_colour_alone_does_not_tell_the_class() -> None:
    scenes = [draw_scene(0, index, 24, 48) for index in range(20)]
    image, label = (np.concatenate([scene[part].reshape(24 * 48, -1) for scene in scenes]) for part in (0, 1))
    bins = (image // 32).astype(np.int64) @ np.array([64, 8, 1])
    counts = np.bincount(bins * 256 + label[:, 0], minlength=512 * 256).reshape(512, 256)[:, : len(CLASS_NAMES)]
    best_for_bin = counts.max(axis=1).sum() / counts.sum()
    assert best_for_bin < 0.65


def test_class_list_is_official_and_in_order() -> None:
    assert list(LABEL_IDS) == sorted(LABEL_IDS)
    assert len(CLASS_NAMES) == len(LABEL_IDS) == len(PALETTE) == 13
    official = {"road": 7, "pole": 17, "vegetation": 21, "person": 24, "bus": 28, "bicycle": 33}
    assert official.items() <= dict(zip(CLASS_NAMES, LABEL_IDS, strict=True)).items()


def test_folders_follow_the_cityscapes_layout(root: Path) -> None:
    for split, num_scenes in (("train", 5), ("val", 3)):
        images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        assert len(images) == num_scenes
        assert {path.parent.name for path in images} == set(CITIES[split])
        for image in images:
            assert image.name.startswith(f"{image.parent.name}_00000")
            name = image.name.replace("leftImg8bit", "gtFine_labelIds")
            assert (root / "gtFine" / split / image.parent.name / name).is_file()


def test_files_hold_the_scenes_in_official_label_ids(root: Path) -> None:
    image, label = draw_scene(7, FIRST_INDEX["val"], 32, 64)
    stem = "val/mocktown/mocktown_000000_000019_"
    written = np.asarray(Image.open(root / "leftImg8bit" / f"{stem}leftImg8bit.png"))
    label_ids = np.asarray(Image.open(root / "gtFine" / f"{stem}gtFine_labelIds.png"))
    assert np.array_equal(written, image)
    assert np.array_equal(label_ids, np.where(label == 255, 0, np.append(LABEL_IDS, [0] * 243)[label]))


def test_no_scene_is_both_trained_on_and_judged(root: Path) -> None:
    images = [path.read_bytes() for path in root.glob("leftImg8bit/*/*/*.png")]
    assert len(set(images)) == len(images) == 8


def test_the_marker_names_version_and_fields_and_nothing_unfinished_stays(root: Path) -> None:
    marker = json.loads((root / MARKER).read_text())
    assert marker["generator_version"] == GENERATOR_VERSION
    assert marker["scene_seed"] == 7
    assert {path.name for path in root.parent.iterdir()} == {"synthetic", ".synthetic.lock"}


def test_a_second_call_writes_nothing_whatever_size_is_trained_at(root: Path) -> None:
    before = stamps(root.parent)
    ensure(SMALL.model_copy(update={"height": 16, "width": 32}), root)
    assert stamps(root.parent) == before


def test_a_folder_of_other_scenes_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"scene_seed.*remove it or name another folder"):
        ensure(SMALL.model_copy(update={"scene_seed": 8}), root)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="no folder of synthetic scenes"):
        ensure(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_killed_attempt_leaves_no_folder_and_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainer.data.synthetic._marker", fail)
        with pytest.raises(KeyboardInterrupt):
            ensure(SMALL, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    ensure(SMALL, tmp_path / "set")
    assert (tmp_path / "set" / MARKER).is_file()
    assert not (tmp_path / ".set.building").exists()


def test_two_processes_at_once_make_one_whole_folder(tmp_path: Path, root: Path) -> None:
    processes = [get_context("spawn").Process(target=ensure, args=(SMALL, tmp_path / "set")) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    ours, theirs = (sorted(path.read_bytes() for path in at.rglob("*.png")) for at in (tmp_path / "set", root))
    assert ours == theirs
