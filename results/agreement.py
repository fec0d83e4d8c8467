"""Whether another account of a table's results says the same as the storage, number by number and to the last bit."""

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd

_PLACE = ["trial_id", "row", "method", "label_fraction", "seed"]
_KEYS = [*_PLACE, "step", "network", "class_name"]
_SAID = ["iou", "eval_size", "initial_weights"]
_EXAMPLES = 3


def disagreements(storage_frame: pd.DataFrame, tracked_frame: pd.DataFrame) -> tuple[str, ...]:
    """A line for each trial and kind of disagreement between two frames as `results_frame` makes them.

    Undefined numbers are compared as absent ones: a tracker may hold no other trace of them.
    """
    ours, theirs = (frame[frame["iou"].notna()] for frame in (storage_frame, tracked_frame))
    both = ours.merge(theirs, on=_KEYS, how="outer", sort=False, suffixes=("", " tracked"), indicator="where")
    both = both.sort_values(["trial_id", "step", "network"], kind="stable")
    is_different = pd.Series(False, index=both.index)
    for name in _SAID:
        is_different |= (both["where"] == "both") & (both[name] != both[f"{name} tracked"])
    return (
        *_lines(both[both["where"] == "left_only"], "missing in the tracker"),
        *_lines(both[both["where"] == "right_only"], "not in the storage"),
        *_lines(both[is_different], "different"),
    )


def _lines(found: pd.DataFrame, what: str) -> Iterable[str]:
    for (trial_id, row, _, fraction, seed), lines in found.groupby(_PLACE, sort=False):
        examples = "; ".join(_example(line) for line in lines.head(_EXAMPLES).to_dict("records"))
        more = f"; and {len(lines) - _EXAMPLES} more" if len(lines) > _EXAMPLES else ""
        yield f"{what}: {row}@{fraction}#{seed} ({trial_id}): {examples}{more}"


def _example(line: dict[Hashable, Any]) -> str:
    place = f"{line['network']} {line['class_name']} at step {line['step']}"
    if line["where"] != "both":
        return place
    changed = [f"{name} {line[name]}, tracked {line[f'{name} tracked']}" for name in _SAID if _differs(line, name)]
    return f"{place}: {', '.join(changed)}"


def _differs(line: dict[Hashable, Any], name: str) -> bool:
    return bool(line[name] != line[f"{name} tracked"])
