"""`mixgrid predict` and `mixgrid preview` as a user meets them: how a trial is named, what is said, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.cli.common import Selection
from orchestrator.cli.predicting import named_trial, predict
from tests.contracts import StopAt
from tests.orchestrator.cli.test_commands import mixgrid
from tests.orchestrator.conftest import small_table
from trainer.run import run_trial
from trainer.spec import RunOptions
from trainer.storage import Storage

SUPERVISED, COMPLEXMIX = small_table().cells()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images of two sizes, one in a folder of its own."""
    (tmp_path / "images/deeper").mkdir(parents=True)
    Image.new("RGB", (50, 20), (90, 90, 90)).save(tmp_path / "images/a.png")
    Image.new("RGB", (64, 32), (9, 90, 190)).save(tmp_path / "images/deeper/b.jpg")
    return tmp_path / "images"


def test_predict_writes_maps_of_the_images_sizes_and_says_where(trained: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = f"{trained}/trials/{COMPLEXMIX.trial_id}"
    ran = mixgrid("predict", folder, str(images), "-o", str(out), "--ids", "cityscapes", "--network", "teacher")
    assert ran.returncode == 0, ran.stderr
    assert f"{COMPLEXMIX.trial_id}, teacher after step 12, judged by resized" in ran.stderr
    for word in (f"{out}/labels", f"{out}/overlays", f"{out}/classes.csv", f"{out}/cityscapes", "2 images predicted"):
        assert word in ran.stdout
    assert "2 names are not <city>" in ran.stdout
    assert np.asarray(Image.open(out / "labels/a.png")).shape == (20, 50)
    assert np.asarray(Image.open(out / "overlays/deeper/b.png")).shape == (32, 64, 3)


def test_a_trial_is_named_by_folder_id_or_cell(trained: str, table_file: str, tmp_path: Path) -> None:
    storage = Storage(trained)
    trial_id = COMPLEXMIX.trial_id
    words = (f"{trained}/trials/{trial_id}", trial_id, "ComplexMix@1/3", "complexmix@1/3#0")
    found = [named_trial(word, storage, table=table_file, checkpoint=False) for word in words]
    assert {each.spec.trial_id for each in found} == {trial_id}
    Selection(table_file, None, None, None, None).remember(storage)
    assert named_trial("Supervised@1/3", storage, table=None, checkpoint=False).spec == SUPERVISED.spec


def test_a_word_that_names_nothing_is_told_what_it_may_be(trained: str, table_file: str) -> None:
    with pytest.raises(
        ValueError, match=r"'Nope' is no folder here, no trial id of the storage .*, and no cell: .*name"
    ):
        named_trial("Nope", Storage(trained), table=table_file, checkpoint=False)


def test_a_half_done_trial_predicts_from_its_checkpoint_and_says_so(
    images: Path, places: dict[str, str], tmp_path: Path
) -> None:
    options = RunOptions(storage=str(tmp_path / "runs"), checkpoint_every=2, log_every=1, **places)
    run_trial(SUPERVISED.spec, options, StopAt(6))
    folder = f"{options.storage}/trials/{SUPERVISED.trial_id}"
    refused = mixgrid("predict", folder, str(images), "-o", str(tmp_path / "out"))
    assert refused.returncode == 2
    assert "take its newest checkpoint with --checkpoint" in refused.stderr
    for word in (folder, SUPERVISED.trial_id):
        assert named_trial(word, Storage(options.storage), table=None, checkpoint=True).step == 6
    ran = mixgrid("predict", folder, str(images), "-o", str(tmp_path / "out"), "--checkpoint")
    assert "student after step 6 of 12: it is not done" in ran.stderr


def test_a_folder_away_from_its_storage_has_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--checkpoint wants a trial's folder in its storage"):
        named_trial(str(tmp_path), Storage(str(tmp_path)), table=None, checkpoint=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no folder", "is no folder of images"),
        ("empty", "holds no image"),
        ("unreadable", "1 of 3 images cannot be read:\n.*broken.png"),
        ("inside", "lies in the folder of images"),
        ("no teacher", "has no teacher"),
    ],
)
def test_what_cannot_be_predicted_is_refused_by_name(
    change: str, message: str, trained: str, images: Path, tmp_path: Path
) -> None:
    words = {"storage": trained, "out": tmp_path / "out", "network": "student"}
    if change == "unreadable":
        (images / "broken.png").write_bytes(b"no image")
    if change == "empty":
        images = tmp_path / "empty"
        images.mkdir()
    folder = {"no folder": images / "a.png"}.get(change, images)
    words |= {"inside": {"out": images / "x"}, "no teacher": {"network": "teacher"}}.get(change, {})
    with pytest.raises(ValueError, match=message):
        predict(SUPERVISED.trial_id, folder, **words)


def test_the_progress_bar_ends_with_every_image(trained: str, images: Path, tmp_path: Path) -> None:
    predict(SUPERVISED.trial_id, images, out=tmp_path / "out", storage=trained)
    assert len(list((tmp_path / "out/labels").rglob("*.png"))) == 2
