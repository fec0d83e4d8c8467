"""A small dataset, an object store and a trained table for every room. Loads torch only where it is needed."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.object_store import ObjectStore, running_object_store

HEIGHT, WIDTH, BLOCK = 32, 64, 8
COLOURS = np.array([(90, 90, 90), (200, 60, 60), (60, 180, 70), (50, 80, 210)], np.uint8)
NUM_IMAGES = {"train": 16, "val": 5}  # 5 is shared evenly by no world size but one
IGNORED = 255


def draw_scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of four classes under noise: image [32, 64, 3] and label [32, 64], uint8, the same on every machine."""
    rng = np.random.RandomState(seed)
    blocks = rng.randint(0, len(COLOURS), (HEIGHT // BLOCK, WIDTH // BLOCK))
    label = blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1).astype(np.uint8)
    image = np.clip(COLOURS[label].astype(int) + rng.randint(-60, 61, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    return image, label


def write_small_dataset(root: Path) -> None:
    """Write images and labels of both splits; image i has i x 4 ignored columns, so that no two count alike."""
    for split, count in NUM_IMAGES.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            image, label = draw_scene(1000 * (split == "val") + number)
            label[:, : 4 * number] = IGNORED
            Image.fromarray(image).save(root / "images" / split / f"{number:02}.png")
            Image.fromarray(label).save(root / "labels" / split / f"{number:02}.png")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, the small dataset (tests.contracts.SMALL is its spec), and `cache`."""
    folder = tmp_path_factory.mktemp("small")
    write_small_dataset(folder / "data")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    """An S3 server for the whole session."""
    with running_object_store() as server:
        yield server


@pytest.fixture
def object_store(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The S3 server, with keys in the environment and nothing else of AWS's there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, word in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", word)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    return s3_server


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    """The name of an empty bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    object_store.make_bucket(name)
    return name


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders for data and cache, shared by all tests."""
    root = tmp_path_factory.mktemp("places")
    return {"data": str(root / "data"), "cache": str(root / "cache")}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, places: dict[str, str]) -> str:
    """A storage in which every trial of `tests.orchestrator.conftest.small_table` is done, without Ray."""
    import torch

    from tests.orchestrator.conftest import small_table
    from trainer.host import NoHost
    from trainer.run import run_trial
    from trainer.spec import RunOptions

    storage = str(tmp_path_factory.mktemp("trained") / "runs")
    threads = torch.get_num_threads()
    for cell in small_table().cells():
        outcome = run_trial(cell.spec, RunOptions(storage=storage, **places), NoHost())
        assert outcome.kind == "done", outcome
    torch.set_num_threads(threads)
    return storage
