"""Confusion matrices of a whole result at once, as text and as arrays: to see quickly that its numbers follow.

Whatever is not plain to see here is for `consistency.py`, which says what is wrong. Loads neither torch nor ray, and
numpy only where counts are looked at: who writes records or asks for help needs none.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_ROUNDING = 0.99e-9
"""Narrower than what consistency.py forgives: what is taken here is taken there."""
_LIMIT = 10**15
"""Counts up to which sums over a thousand classes stay within int64."""


def cut_counts(text: bytes) -> tuple[bytes, list[bytes]]:
    """Take the confusion matrices out of a result's canonical JSON.

    Returns: what remains, and the rows of each matrix as "1,2],[3,4".
    """
    head, *others = text.split(b'"confusion":[[')
    cut = [other.partition(b"]],") for other in others]
    return b"".join([head, *(tail for _, _, tail in cut)]), [rows for rows, _, _ in cut]


def parse_counts(texts: Sequence[bytes], num_classes: int) -> "np.ndarray | None":
    """Rows as `cut_counts` gives them to counts [N, C, C] int64; None unless all are squares of counts below 10^15."""
    import numpy as np

    rows = b"],[".join(texts)
    shape = len(texts), num_classes, num_classes
    if rows.translate(None, b"0123456789") != _marks(len(texts) * num_classes, num_classes):
        return None
    with suppress(ValueError, DeprecationWarning):  # a number is left out
        counts = np.fromstring(rows.translate(None, b"[]"), dtype=np.int64, sep=",")
        if counts.size == prod(shape) > 0 and counts.max() < _LIMIT:  # what is too large for int64 becomes its largest
            return counts.reshape(shape)
    return None


@lru_cache(maxsize=8)
def _marks(num_rows: int, num_classes: int) -> bytes:
    """What rows of counts leave when their digits are taken out."""
    return b"],[".join([b"," * (num_classes - 1)] * num_rows)


def do_numbers_follow(
    texts: Sequence[bytes],
    num_classes: int,
    class_iou: Sequence[Sequence[float | None]],
    mean_iou: Sequence[float | None],
) -> bool:
    """Whether IoUs by class [N][C] and their means [N] are those of N matrices as `cut_counts` gives them.

    None stands for the IoU of a class in neither truth nor prediction, and for the mean of none.
    """
    import numpy as np

    counts = parse_counts(texts, num_classes)
    if counts is None or len(class_iou) != len(counts) or {len(row) for row in class_iou} != {num_classes}:
        return False
    hits = counts.diagonal(axis1=1, axis2=2)
    unions = counts.sum(axis=1) + counts.sum(axis=2) - hits
    ious = np.where(unions > 0, hits / np.maximum(unions, 1), np.nan)
    num_defined = (unions > 0).sum(axis=1)
    means = np.where(num_defined > 0, np.nansum(ious, axis=1) / np.maximum(num_defined, 1), np.nan)
    return _is_equal(class_iou, ious) and _is_equal(mean_iou, means)


def _is_equal(given: Sequence[object], wanted: "np.ndarray") -> bool:
    import numpy as np

    values = np.array(given, dtype=np.float64)  # None becomes NaN
    is_near = np.abs(values - wanted) <= _ROUNDING
    return bool((is_near | (np.isnan(values) & np.isnan(wanted))).all())
