"""Records as MLflow's points and tags: their names, there and back."""

import json
import re
from collections.abc import Mapping, Sequence

from mlflow.entities import Metric

from trainer.records import EvaluationRecord, TrainRecord

CLASS_NAMES = "mixgrid.class_names"
EVAL_SIZE = "mixgrid.eval_size"
MEAN_IOU = "mean_iou"
_TAG_LENGTH = 5000  # MLflow takes 8,000


def points_of(record: TrainRecord | EvaluationRecord, class_names: Sequence[str]) -> list[Metric]:
    """A record as MLflow metrics, stamped with the record's own time."""
    stamp = int(record.time * 1000)
    if isinstance(record, TrainRecord):
        return [Metric(f"train/{name}", value, stamp, record.step) for name, value in record.scalars.items()]
    values = {MEAN_IOU: record.mean_iou, **dict(zip(words_of(class_names), record.class_iou, strict=False))}
    return [
        Metric(f"{record.network}/{word}", value, stamp, record.step)
        for word, value in values.items()  # without names no classes
        if value is not None
    ]


def words_of(class_names: Sequence[str]) -> list[str]:
    """The names of the metrics of the classes, in order, without the network's."""
    return [f"iou/{metric_word(name, index)}" for index, name in enumerate(class_names)]


def metric_word(name: str, index: int) -> str:
    """A class name as MLflow allows it in the name of a metric; with its number where signs had to go."""
    word = re.sub(r"[^\w\- ]", "_", name)
    return word if word == name else f"{word}_{index}"


def tags_of_names(class_names: Sequence[str]) -> dict[str, str]:
    """The names themselves as tags, in pieces that MLflow takes."""
    text = json.dumps(list(class_names))
    pieces = [text[first : first + _TAG_LENGTH] for first in range(0, len(text), _TAG_LENGTH)]
    return {f"{CLASS_NAMES}.{number}" if number else CLASS_NAMES: piece for number, piece in enumerate(pieces)}


def names_in(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The class names that `tags_of_names` noted; none where nobody noted them."""
    pieces = [tags.get(CLASS_NAMES, "")]
    while (piece := tags.get(f"{CLASS_NAMES}.{len(pieces)}")) is not None:
        pieces.append(piece)
    return tuple(json.loads("".join(pieces))) if pieces[0] else ()
