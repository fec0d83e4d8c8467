"""The one place where a dataset spec picks a layout. Loads neither torch nor ray."""

import hashlib
import json
from pathlib import Path

from trainer.data.camvid import camvid_layout
from trainer.data.cityscapes import cityscapes_layout
from trainer.data.cityscapes import palette_of as cityscapes_palette
from trainer.data.described import folders_layout
from trainer.data.folders import Layout
from trainer.data.resizing import Array
from trainer.spec import CamVid, Cityscapes, Dataset, Synthetic

GENERATOR_FIELDS = ("scene_height", "scene_width", "num_train", "num_eval", "scene_seed")
"""The fields of Synthetic that decide what is drawn; the training size is not among them."""


def open_layout(dataset: Dataset, data_root: Path) -> Layout:
    """The layout of a dataset below the data folder; a synthetic one is drawn first where it is not there yet.

    Raises: DataError where the spec of a user's own dataset contradicts itself. Missing files are noticed when a split
        is listed (`Layout.samples`).
    """
    root = Path(data_root).expanduser()
    if isinstance(dataset, Cityscapes):
        return cityscapes_layout(root / "cityscapes")
    if isinstance(dataset, CamVid):
        return camvid_layout(root / "camvid")
    if isinstance(dataset, Synthetic):
        return _synthetic_layout(dataset, root)
    return folders_layout(dataset, root)


def palette_of(dataset: Dataset) -> Array:
    """The colours of a dataset's classes, [C, 3] uint8; none of its files needs to be there, and none is drawn."""
    if isinstance(dataset, Synthetic):
        from trainer.data import synthetic

        return cityscapes_palette(synthetic.CLASS_NAMES)
    return open_layout(dataset, Path()).palette


def synthetic_root(dataset: Synthetic, data_root: Path) -> Path:
    """The folder of the scenes that this generator draws from these fields: `<data>/synthetic-<10 hex digits>`."""
    from trainer.data import synthetic  # the drawing is only loaded for this dataset

    content = [synthetic.GENERATOR_VERSION, *(getattr(dataset, name) for name in GENERATOR_FIELDS)]
    return data_root / f"synthetic-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]}"


def _synthetic_layout(dataset: Synthetic, data_root: Path) -> Layout:
    from trainer.data import synthetic

    root = synthetic_root(dataset, data_root)
    synthetic.ensure(dataset, root)
    return cityscapes_layout(root, name="synthetic", class_names=synthetic.CLASS_NAMES)
