"""Whether MLflow can be reached, against a server that answers as MLflow does."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator.submit.tracker import problem_with


class Answer(BaseHTTPRequestHandler):
    code, body = 200, b"{}"
    seen: list[str | None] = []  # noqa: RUF012  (what the tests look at)

    def do_GET(self) -> None:
        type(self).seen.append(self.headers["Authorization"])
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that answers what `Answer` says."""
    Answer.code, Answer.body, Answer.seen = 200, b"{}", []
    with HTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_a_server_that_answers_is_no_problem(server: str) -> None:
    assert problem_with(server) == ""


def test_a_file_is_not_asked() -> None:
    assert problem_with("sqlite:////tmp/x.db") == ""


def test_the_host_check_is_explained_with_the_option_that_mends_it(server: str) -> None:
    Answer.code, Answer.body = 403, b"Invalid Host header - possible DNS rebinding attack detected"
    port = server.rstrip("/").rpartition(":")[2]
    assert f"mlflow server --allowed-hosts 127.0.0.1,127.0.0.1:{port} …" in problem_with(server)


@pytest.mark.parametrize("code", [401, 403])
def test_a_server_that_wants_credentials_is_told_apart(server: str, code: int) -> None:
    Answer.code, Answer.body = code, b"You are not authenticated"
    assert "MLFLOW_TRACKING_TOKEN" in problem_with(server)


def test_credentials_of_the_environment_are_sent(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    problem_with(server)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw")
    problem_with(server)
    assert Answer.seen == ["Bearer abc", "Basic bWU6cHc="]


def test_nobody_there_is_said() -> None:
    assert "cannot be reached" in problem_with("http://127.0.0.1:9")
