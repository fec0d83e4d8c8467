"""The layout of a user's own dataset, which a spec describes by its folders. Loads neither torch nor ray."""

from pathlib import Path

from trainer.data.folders import IGNORE, DataError, Layout, label_table
from trainer.data.palettes import distinct_palette
from trainer.spec import Folders


def folders_layout(dataset: Folders, data_root: Path) -> Layout:
    """The layout of a dataset that a spec describes by its folders, below `data_root`.

    `label_ids` may map a value to 255, which ignores it as `ignore_value` is ignored.

    Raises: DataError where `label_ids` holds a value that cannot be stored or names a class that does not exist.
    """
    num_classes = len(dataset.class_names)
    ids = {index: index for index in range(num_classes)} if dataset.label_ids is None else dict(dataset.label_ids)
    for stored, index in ids.items():
        if not 0 <= stored <= 255 or not (0 <= index < num_classes or index == IGNORE):
            raise DataError(
                f"{dataset.name}: dataset.label_ids maps {stored} to {index}: a stored value in 0..255 to a class "
                f"index in 0..{num_classes - 1} (or {IGNORE}, ignored) is wanted"
            )
    if dataset.label_ids is not None and ids.get(dataset.ignore_value, IGNORE) != IGNORE:
        raise DataError(
            f"{dataset.name}: dataset.ignore_value {dataset.ignore_value} is also a class in dataset.label_ids"
        )
    return Layout(
        name=dataset.name,
        root=data_root,
        images=f"{dataset.images}/{{split}}",
        labels=f"{dataset.labels}/{{split}}",
        label_ending=dataset.label_suffix,
        class_names=dataset.class_names,
        label_table=label_table({**ids, dataset.ignore_value: IGNORE}, ignored=()),
        palette=distinct_palette(num_classes),
        remedy="dataset.class_names, dataset.label_ids and dataset.ignore_value decide this",
    )
