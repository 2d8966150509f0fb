"""Chromium over the DevTools protocol's pipe: opens a page, evaluates in it, and keeps what it logs and asks for.

Nothing but the standard library: the browser reads commands from file descriptor 3 and answers on 4, JSON ended by NUL.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import time
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
_QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


def _high(fd: int) -> int:
    """The same end of a pipe under a number above 9."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return high


class Browser:
    """One headless browser with one page; a context manager."""

    def __init__(self, folder: Any) -> None:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *_QUIET]
        command += [f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"]
        # The browser wants descriptors 3 and 4; those of the pipes lie above, so that none is overwritten.
        theirs, self._write = (_high(fd) for fd in os.pipe())
        self._read, back = (_high(fd) for fd in os.pipe())
        files = [(os.POSIX_SPAWN_DUP2, theirs, 3), (os.POSIX_SPAWN_DUP2, back, 4)]
        files += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        self._pid = os.posix_spawn(CHROMIUM, command, os.environ, file_actions=files)
        os.close(theirs)
        os.close(back)
        self._buffer, self._last, self._session = b"", 0, None
        self.logged: list[str] = []
        self.asked: list[str] = []
        self.threw: list[str] = []
        self._done: set[str] = set()
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        os.waitpid(self._pid, 0)  # a closed pipe ends it

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer; events that come before it are noted."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, page: Any) -> Browser:
        """Loads a file and forgets what was logged and asked before."""
        self.logged, self.asked, self.threw = [], [], []
        loader = self.call("Page.navigate", url=page.as_uri())["loaderId"]
        while loader not in self._done:
            self._next()
        return self

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, what it comes to."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", "exception"))
        return found["result"].get("value")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Sets the window, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def media(self, scheme: str = "light", kind: str = "screen") -> None:
        """Sets ``prefers-color-scheme`` and the medium."""
        self.call(
            "Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def screenshot(self, *, full: bool = True) -> bytes:
        """The page as PNG."""
        found = self.call(
            "Page.captureScreenshot", captureBeyondViewport=full, **({"clip": self._all()} if full else {})
        )
        return base64.b64decode(found["data"])

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _all(self) -> dict[str, Any]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def _next(self, patience: float = 240.0) -> dict[str, Any]:
        """The next message; an event is noted."""
        ends = time.monotonic() + patience
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the browser has said nothing for {patience:g} s")
            got = os.read(self._read, 1 << 20)
            if not got:
                raise RuntimeError("the browser has ended")
            self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self._done.add(params["loaderId"])
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            self.asked.append(params["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.logged.append(f"{params['type']}: {[a.get('value', a.get('description')) for a in params['args']]}")
        elif method == "Log.entryAdded":
            self.logged.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.threw.append(details.get("exception", {}).get("description", details["text"]))
