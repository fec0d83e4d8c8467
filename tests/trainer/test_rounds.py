"""Labels of a round in storage: made once, found again, never half there, never another trial's or another code's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.data.pool_labels import PoolLabels, pack
from trainer.errors import SetupError
from trainer.reading import find_round_labels
from trainer.records import Digests
from trainer.rounds import labels_of_checkpoint, labels_of_round, remove_labels
from trainer.storage import Storage

DIGESTS = Digests(code="c", data="d", split="s", weights="w", precision="float32")
FOLDER = Path("trials/dst_cbc-1/labels")


class Making:
    """Makes labels and counts how often it was asked to."""

    def __init__(self, value: int = 1) -> None:
        self.value = value
        self.calls = 0

    def __call__(self) -> PoolLabels:
        self.calls += 1
        return PoolLabels(2, 3, {"a": pack(np.full((2, 3), self.value, np.uint8))}, {"thresholds": [0.5, 1.0]})


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def of_round(
    storage: Storage, make: Callable[[], PoolLabels], *, step: int = 8, digests: Digests = DIGESTS
) -> PoolLabels:
    return labels_of_round(storage, trial_id="dst_cbc-1", attempt="1-a", step=step, digests=digests, make=make)


def test_labels_are_made_once_and_found_again(storage: Storage) -> None:
    make = Making()
    first, again = of_round(storage, make), of_round(storage, make)
    assert make.calls == 1
    assert first == again
    (marker,) = find_round_labels(storage, "dst_cbc-1", 8)
    assert marker.about == {"thresholds": [0.5, 1.0]}
    assert marker.file.sha256_of_file == first.digest


def test_each_round_has_labels_of_its_own(storage: Storage) -> None:
    of_round(storage, Making(1), step=8)
    assert of_round(storage, Making(2), step=16).label("a")[0, 0] == 2
    assert of_round(storage, Making(3), step=8).label("a")[0, 0] == 1


def test_labels_of_other_code_are_made_anew(storage: Storage) -> None:
    of_round(storage, Making(1))
    changed = of_round(storage, Making(2), digests=DIGESTS.model_copy(update={"code": "other"}))
    assert changed.label("a")[0, 0] == 2


def test_labels_without_their_marker_do_not_count(storage: Storage, tmp_path: Path) -> None:
    of_round(storage, Making(1))
    next((tmp_path / FOLDER).glob("*.json")).unlink()
    make = Making(2)
    assert of_round(storage, make).label("a")[0, 0] == 2
    assert make.calls == 1


@pytest.mark.parametrize("harm", [lambda content: content[:-1], lambda content: content[:50] + b"x" + content[51:]])
def test_damaged_labels_are_made_anew(storage: Storage, tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    of_round(storage, Making(1))
    path = next((tmp_path / FOLDER).glob("*.arrow"))
    path.write_bytes(harm(path.read_bytes()))
    assert of_round(storage, Making(2)).label("a")[0, 0] == 2


def test_a_checkpoint_gets_the_very_labels_it_was_trained_on(storage: Storage) -> None:
    mine = of_round(storage, Making(1))
    of_round(storage, Making(2), digests=DIGESTS.model_copy(update={"code": "other"}))
    assert labels_of_checkpoint(storage, trial_id="dst_cbc-1", sha256=mine.digest) == mine


@pytest.mark.parametrize("lost", ["*.arrow", "*.json"])
def test_a_checkpoint_whose_labels_are_gone_is_refused_with_the_cure(
    storage: Storage, tmp_path: Path, lost: str
) -> None:
    digest = of_round(storage, Making(1)).digest
    next((tmp_path / FOLDER).glob(lost)).unlink()
    with pytest.raises(SetupError, match="gone or damaged.*--restart"):
        labels_of_checkpoint(storage, trial_id="dst_cbc-1", sha256=digest)


def test_of_a_finished_trial_only_the_markers_stay(storage: Storage, tmp_path: Path) -> None:
    of_round(storage, Making(1))
    remove_labels(storage, "dst_cbc-1")
    assert [path.suffix for path in (tmp_path / FOLDER).iterdir()] == [".json"]
