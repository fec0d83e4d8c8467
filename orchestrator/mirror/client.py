"""Where MLflow is, and its runs by our own keys."""

import logging
import os
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from trainer.storage import Storage

EXPERIMENT = "mixgrid"
_KEY = "mixgrid.key"


def open_client(tracking_uri: str) -> MlflowClient:
    """A client that asks a server which is away once more, not for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    return MlflowClient(tracking_uri=tracking_uri)


def runs_by_key(client: MlflowClient, experiment: str) -> dict[str, Run]:
    """Every run of ours by its key: the id of its trial, or of its table. Read in pages."""
    runs: dict[str, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment], f"tags.`{_KEY}` != ''", 1, 1000, None, token)
        runs |= {run.data.tags[_KEY]: run for run in page}
        token = page.token
        if not token:
            return runs


def default_tracking_uri(storage: Storage) -> str:
    """A SQLite file in a local storage; beside remote storage one in the user's state folder."""
    if storage.is_local:
        path = Path(storage.locate("mlflow.db"))
    else:
        path = Path.home() / ".local" / "state" / "mixgrid" / "mlflow.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def artifact_location(storage: Storage, tracking_uri: str) -> str | None:
    """Beside a SQLite file of ours the artifacts lie in the storage too; a server knows its own place."""
    if tracking_uri.startswith("sqlite:") and storage.is_local:
        return Path(storage.locate("mlartifacts")).as_uri()
    return None


def quiet() -> None:
    """Keep MLflow's own chatter off a terminal that shows a table."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
