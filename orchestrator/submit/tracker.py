"""Whether an MLflow server can be reached from here, asked without loading MLflow."""

import base64
import os
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_QUESTION = "/api/2.0/mlflow/experiments/search?max_results=1"  # its /health answers to every host


def problem_with(tracking_uri: str) -> str:
    """Why MLflow at this address cannot be used from here, and the cure; empty where it can, or where it is a file."""
    if not tracking_uri.startswith(("http://", "https://")):
        return ""
    request = urllib.request.Request(tracking_uri.rstrip("/") + _QUESTION, headers=_credentials())
    try:
        with urllib.request.urlopen(request, timeout=10):
            return ""
    except urllib.error.HTTPError as error:
        return _explained(tracking_uri, error.code, error.read(500).decode(errors="replace"))
    except OSError as error:
        return f"MLflow at {tracking_uri} cannot be reached: {getattr(error, 'reason', error)}"


def _explained(uri: str, code: int, answer: str) -> str:
    if code == 403 and "host" in answer.lower():
        place = urlsplit(uri)
        return (
            f"MLflow at {uri} refuses this name in its host check (403): start it with `mlflow server --allowed-hosts "
            f"{place.hostname},{place.netloc.rpartition('@')[2]} …`, the name with and without its port"
        )
    if code in (401, 403):
        return (
            f"MLflow at {uri} wants to know who asks ({code}): MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, have to be set on the cluster (--env NAME passes them on)"
        )
    return f"MLflow at {uri} answers {code}: {answer.strip()[:200]}"


def _credentials() -> dict[str, str]:
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if name and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
