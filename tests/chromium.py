"""Headless Chromium, spoken to over two pipes with the DevTools protocol: JSON messages that end with a zero byte."""

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe"]
DOMAINS = ["Page", "Runtime", "Log", "Network"]
GONE = ["Cannot find context", "Cannot find default execution context", "context was destroyed", "Promise was collected"]
GONE += ["navigated or closed", "No frame", "Frame with the given"]


class GoneError(AssertionError):
    """The document that was asked made way for another one meanwhile."""


class Chromium:
    """One page; what went wrong on it is kept: errors of the console, and requests that leave the file."""

    def __init__(self, profile: Path, width: int = 1400, height: int = 900, timeout_s: float = 60) -> None:
        self.events: list[dict[str, Any]] = []
        self.number, self.unread, self.timeout_s = 0, b"", timeout_s
        to_browser, self.to_browser = os.pipe()
        self.from_browser, from_browser = os.pipe()
        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        moved = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'  # the pipes are file descriptors 3 and 4
        self.process = subprocess.Popen(
            ["bash", "-c", moved, "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in DOMAINS:
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page; its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                said = answer.get("error", {}).get("message", "")
                if any(words in said for words in GONE):
                    raise GoneError(f"{method}: {said}")
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + self.timeout_s
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.from_browser], [], [], max(0, end - time.monotonic()))
            read = os.read(self.from_browser, 1 << 20) if ready else b""
            assert read, f"Chromium said nothing for {self.timeout_s} s, or ended ({self.process.poll()})"
            self.unread += read
        message, self.unread = self.unread.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, path: Path) -> None:
        """Show a file and wait until it is loaded."""
        url = path.resolve().as_uri()
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def found(self, method: str) -> list[dict[str, Any]]:
        """The parameters of every event of a kind, so far."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def ask(self, script: str, **where: Any) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, **where)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, answer: Callable[[], Any], what: str) -> Any:
        """Wait until `answer`, which asks the page, is true, and return it. The page may go to another document meanwhile."""
        end = time.monotonic() + self.timeout_s
        while True:
            with suppress(GoneError):
                if value := answer():
                    return value
            assert time.monotonic() < end, f"never true: {what}"
            time.sleep(0.02)

    def until(self, script: str) -> Any:
        """Wait until a JavaScript expression is true, and return it."""
        return self.wait_for(lambda: self.ask(script), script)

    def until_inside(self, script: str) -> Any:
        """Wait until a JavaScript expression is true in a frame of the page, and return it."""
        return self.wait_for(lambda: self._inside(script), f"{script} in a frame")

    def _inside(self, script: str) -> Any:
        for frame in self.call("Page.getFrameTree")["frameTree"].get("childFrames", []):
            world = self.call("Page.createIsolatedWorld", frameId=frame["frame"]["id"])["executionContextId"]
            if value := self.ask(script, contextId=world):
                return value
        return None

    def errors(self) -> list[str]:
        """What the console calls an error, exceptions that nothing caught, and resources that could not be had."""
        said = [str(call["args"]) for call in self.found("Runtime.consoleAPICalled") if call["type"] in ("error", "assert")]
        thrown = [str(thrown["exceptionDetails"]) for thrown in self.found("Runtime.exceptionThrown")]
        logged = [entry["entry"]["text"] for entry in self.found("Log.entryAdded") if entry["entry"]["level"] == "error"]
        return said + thrown + logged + [failed["errorText"] for failed in self.found("Network.loadingFailed") if not failed["canceled"]]

    def requests(self) -> list[str]:
        """The addresses of everything that was asked for."""
        return [sent["request"]["url"][:200] for sent in self.found("Network.requestWillBeSent")]

    def screenshot(self, png: Path) -> None:
        """What is seen now."""
        png.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        self.process.wait(self.timeout_s)
        os.close(self.to_browser)
        os.close(self.from_browser)
