"""A small dataset on disk that every room may train on. Loads no torch, so that the torch-free rooms stay quick."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
