"""A headless Chromium to open pages in, spoken to over a pipe in its own protocol; no driver and no library between.

https://chromedevtools.github.io/devtools-protocol/ names the methods and events.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_PATIENCE_SECONDS = 20.0
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, "")}


class Page:
    """One page; `events` are all that the browser said of it, in order."""

    def __init__(self, to_browser: RawIOBase, from_browser: RawIOBase) -> None:
        self._out, self._in, self._unread = to_browser, from_browser, b""
        self._numbers, self._session = itertools.count(1), None
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and wait for its answer. Raises: RuntimeError with the browser's words."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        self._out.write(json.dumps({"id": number, "method": method, "params": params, **session}).encode() + b"\0")
        while (message := self._next()).get("id") != number:
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return dict(message["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], _PATIENCE_SECONDS)
            read = self._in.read(1 << 20) if ready else b""
            if not read:
                raise RuntimeError("the browser is gone" if ready else "the browser is silent")
            self._unread += read
        text, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(text))

    def open(self, url: str) -> None:
        """Go to a page and wait until all of it is there."""
        self.events.clear()
        is_new = "loaderId" in self.ask("Page.navigate", url=url)  # else another place of the page that is there
        while is_new and not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = _KEYS[key]
        of_key = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **of_key)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **of_key)

    def resize(self, width: int, height: int = 844, *, scale: float = 1.0) -> None:
        """Show the page on a screen of this size."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def prefer(self, scheme: str) -> None:
        """Ask for light or dark pages."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def printed(self) -> bytes:
        """The page as it prints, as PDF."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=False)["data"])

    @property
    def complaints(self) -> list[str]:
        """What the console holds: messages, errors of scripts, what the page's policy forbade."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [str(params["request"]["url"]) for params in sent]


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A page of a new browser whose profile lies in a folder; the browser ends with it."""
    assert CHROMIUM is not None
    read_by_browser, to_browser = os.pipe()
    from_browser, written_by_browser = os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command = [CHROMIUM, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    # The browser reads from descriptor 3 and writes to 4; bash, since dash knows no descriptor above 9.
    wired = ["bash", "-c", f'exec "$@" 3<&{read_by_browser} 4>&{written_by_browser}', "bash", *command]
    with subprocess.Popen(
        wired, pass_fds=(read_by_browser, written_by_browser), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        os.close(read_by_browser)
        os.close(written_by_browser)
        with os.fdopen(to_browser, "wb", buffering=0) as out, os.fdopen(from_browser, "rb", buffering=0) as back:
            try:
                yield Page(out, back)
            finally:
                process.terminate()
                process.wait(10)
