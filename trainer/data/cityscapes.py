"""Cityscapes in its own layout: folders, the 19 classes that are trained on, their ids and colours.

Source: cityscapesScripts, cityscapesscripts/helpers/labels.py (id, trainId and color of each label).
"""

from pathlib import Path

import numpy as np

from trainer.data.folders import DataError, Layout, label_table
from trainer.data.resizing import Array

CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""Name -> (stored label id, RGB); the order is that of the train ids 0..18."""

CLASS_NAMES = tuple(CLASSES)
LEGAL_IDS = (*range(34), 255)
"""Ids 0..33, and the licence plate's -1 as it looks in 8 bits; whatever is no class of a layout is ignored."""
EXPECTED_COUNTS = {"train": 2975, "val": 500, "test": 1525}


def palette_of(class_names: tuple[str, ...]) -> Array:
    """The official colours of classes: [C, 3] uint8, RGB."""
    return np.array([CLASSES[name][1] for name in class_names], np.uint8)


def label_ids_of(class_names: tuple[str, ...]) -> Array:
    """The stored ids of classes, as Cityscapes' server reads them, for each class index: [C] uint8.

    Raises: DataError naming classes that Cityscapes does not have.
    """
    refuse_unknown(class_names, "--ids cityscapes")
    return np.array([CLASSES[name][0] for name in class_names], np.uint8)


def refuse_unknown(class_names: tuple[str, ...], who: str) -> None:
    """Raises: DataError naming classes that Cityscapes does not have."""
    unknown = [given for given in class_names if given not in CLASSES]
    if unknown:
        raise DataError(f"{who}: no Cityscapes class is called {', '.join(unknown)}; there are {', '.join(CLASSES)}")


def cityscapes_layout(root: Path, *, name: str = "cityscapes", class_names: tuple[str, ...] = CLASS_NAMES) -> Layout:
    """The layout leftImg8bit/<split>/<city>/… and gtFine/<split>/<city>/…_gtFine_labelIds.png below `root`.

    A sample is named "<city>/<city>_<sequence>_<frame>". Another set in the same layout gives its own name and its own
    choice of the 19 classes; stored ids of the classes it leaves out are ignored. Only Cityscapes itself has published
    counts.

    Raises: DataError for a class that Cityscapes does not have.
    """
    refuse_unknown(class_names, name)
    return Layout(
        name=name,
        root=root,
        images="leftImg8bit/{split}",
        labels="gtFine/{split}",
        image_ending="_leftImg8bit",
        label_ending="_gtFine_labelIds.png",
        class_names=class_names,
        label_table=label_table({CLASSES[each][0]: i for i, each in enumerate(class_names)}, ignored=LEGAL_IDS),
        palette=palette_of(class_names),
        expected_counts=EXPECTED_COUNTS if name == "cityscapes" else {},
        remedy="the ids of gtFine's labelIds files",
    )
