"""An S3 server of our own on the loopback device, that can be told to fail: a process of its own, as real ones are.

A process, since pyarrow holds Python's lock in some of its requests: a server in a thread would never answer them.
"""

import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

LATE_SECONDS = 5.0
_CONTROL = "/_control"
_ERRORS = {
    "error": ("500 Internal Server Error", "InternalError", "We encountered an internal error."),
    "denied": ("403 Forbidden", "AccessDenied", "Access Denied for s3cr%2Ft s3cr/t"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to requests whose "METHOD /bucket/key?query" matches, counted from 0.

    "error" and "denied": an answer of that kind; "late": none before a patient client has left; "dropped": the
    connection is closed; "lost": so, after all was done; "cut": so, in the middle of the answer.
    """

    kind: Literal["error", "denied", "late", "dropped", "lost", "cut"]
    matching: str = ""
    share: float = 1.0
    seed: int = 0
    first: int = 0
    lasts: int = 1_000_000


class ObjectStore:
    """The server as a test sees it."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.endpoint = f"http://{address}:{port}"

    def url(self, place: str, keys: str = "") -> str:
        """The URL of a storage."""
        return f"s3://{keys}{place}?endpoint_override={self.endpoint}"

    def make_bucket(self, bucket: str) -> None:
        """Make an empty bucket."""
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{bucket}", method="PUT")).close()

    def fill(self, bucket: str, keys: Iterable[str]) -> None:
        """Put an empty object at each key."""
        self._tell("fill", bucket=bucket, keys=list(keys))

    def age(self, bucket: str, key: str, *, seconds: float) -> None:
        """Let an object have been written so much earlier, by the server's clock."""
        self._tell("age", bucket=bucket, key=key, seconds=seconds)

    def seen(self) -> list[str]:
        """The requests since the question before: "METHOD /bucket/key?query by KEY"."""
        seen: list[str] = self._tell("seen")
        return seen

    @contextmanager
    def failing(self, kind: Any, **fields: Any) -> Iterator[None]:
        """Fail while the body runs; fields are those of `Fault`."""
        self._tell("fail", fault=asdict(Fault(kind, **fields)))
        try:
            yield
        finally:
            self._tell("fail", fault=None)

    def _tell(self, word: str, **fields: Any) -> Any:
        body = json.dumps({"word": word, **fields}).encode()
        with urllib.request.urlopen(self.endpoint + _CONTROL, body, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running_object_store(
    address: str = "127.0.0.1", on_host: Callable[[list[str]], list[str]] = list
) -> Iterator[ObjectStore]:
    """A server that ends with the body, or with this process.

    Args:
        address: where it listens.
        on_host: makes a command line one that runs on the host with this address.
    """
    command = on_host([sys.executable, "-m", "tests.object_store", address])
    root = Path(__file__).parent.parent
    server = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        with server.stdin, server.stdout:
            yield ObjectStore(int(server.stdout.readline()), address)
    finally:
        server.wait(timeout=30)


# --- in the process of the server ---------------------------------------------------------------------------------


class FailingApp:
    """A WSGI application before another one: counts requests, and fails as it was told."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._seen: list[str] = []
        self._fault: Fault | None = None
        self._count = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _CONTROL:
            answer = self._obey(**json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(answer).encode()]
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        key = re.search(r"Credential=([^/]*)/", environ.get("HTTP_AUTHORIZATION", ""))
        with self._lock:
            self._seen.append(f"{request} by {key[1] if key else 'nobody'}")
            kind = self._kind_of(request)
        return self._app(environ, start) if kind is None else self._fail(kind, environ, start)

    def _kind_of(self, request: str) -> str | None:
        fault = self._fault
        if fault is None or not re.search(fault.matching, request):
            return None
        count, self._count = self._count, self._count + 1
        is_drawn = self._draw.random() < fault.share
        return fault.kind if is_drawn and fault.first <= count < fault.first + fault.lasts else None

    def _fail(self, kind: str, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if kind in _ERRORS:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, code, message = _ERRORS[kind]
            start(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]
        if kind == "late":
            time.sleep(LATE_SECONDS)
        if kind == "lost":
            b"".join(self._app(environ, lambda *_: None))
        if kind == "cut":
            content = b"".join(self._app(environ, start))
            return self._cut(environ, content)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError("dropped on purpose")

    @staticmethod
    def _cut(environ: dict[str, Any], content: bytes) -> Iterator[bytes]:
        yield content[: len(content) // 2]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError("cut on purpose")

    def _obey(self, word: str, **fields: Any) -> Any:
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        match word:
            case "seen":
                with self._lock:
                    seen, self._seen = self._seen, []
                return seen
            case "fail":
                with self._lock:
                    self._fault = fields["fault"] and Fault(**fields["fault"])
                    self._draw = random.Random(self._fault and self._fault.seed)
                    self._count = 0
            case "fill":
                for key in fields["keys"]:
                    store.put_object(fields["bucket"], key, b"")
            case "age":
                store.head_object(fields["bucket"], fields["key"]).last_modified -= timedelta(seconds=fields["seconds"])
        return None


def main() -> None:
    """Serve at the address given until standard input ends; say the port first."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    app = FailingApp(DomainDispatcherApplication(create_backend_app))
    server = make_server(sys.argv[1], 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
