"""Storage to MLflow and back. This folder alone knows mlflow; import from here."""

from orchestrator.mirror.client import EXPERIMENT, default_tracking_uri, quiet
from orchestrator.mirror.points import metric_word, points_of
from orchestrator.mirror.reading import read_tracked
from orchestrator.mirror.writing import Mirror, mirroring, sync_once, word_of

__all__ = [
    "EXPERIMENT",
    "Mirror",
    "default_tracking_uri",
    "metric_word",
    "mirroring",
    "points_of",
    "quiet",
    "read_tracked",
    "sync_once",
    "word_of",
]
