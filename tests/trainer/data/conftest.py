"""Small datasets on disk in the true layouts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAMES = ("aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "bochum/bochum_000000_000313")


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels to an image file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise as an RGB picture."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Callable[..., Path]:
    """A writer of Cityscapes folders: 16x32 pixels, ids 7 and 33 left and right, some images without label."""

    def write(split: str = "train", names: tuple[str, ...] = NAMES, unlabeled: tuple[str, ...] = ()) -> Path:
        root = tmp_path / "data" / "cityscapes"
        ids = np.repeat([[7] * 16 + [33] * 16], 16, axis=0).astype(np.uint8)
        for seed, name in enumerate(names):
            save(root / f"leftImg8bit/{split}/{name}_leftImg8bit.png", picture(16, 32, seed))
            if name not in unlabeled:
                save(root / f"gtFine/{split}/{name}_gtFine_labelIds.png", ids)
        return root

    return write
