"""Headless Chromium, controlled by its DevTools protocol over a pipe."""

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find_browser() -> str | None:
    """Path of an installed Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a running browser.

    Attributes:
        complaints: what the page logged as an error or warning, or threw, since it was opened.
    """

    def __init__(self, commands: int, answers: int) -> None:
        """Attach to the first page.

        Args:
            commands: file descriptor that the browser reads.
            answers: file descriptor that it writes.
        """
        self.complaints: list[str] = []
        self._commands, self._answers = commands, answers
        self._numbers = itertools.count(1)
        self._left = b""
        self._session = ""
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of a command of the protocol; notes complaints that arrive before it."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != number:
            self._note(message)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def open(self, file: Path) -> None:
        """Load a page and wait until it is complete."""
        self.complaints.clear()
        self.call("Page.navigate", url=file.absolute().as_uri())
        while self._note(self._message()) != "Page.loadEventFired":
            pass

    def evaluate(self, script: str) -> object:
        """Value of an expression in the page; of a promise, what it comes to."""
        actual = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in actual, actual
        value: object = actual["result"].get("value")
        return value

    def press(self, key: str, text: str = "") -> None:
        """A key, as a person at the keyboard would press it."""
        code = {"Tab": 9, "Enter": 13, " ": 32}.get(key, 0)
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def look(self, *, width: int, scheme: str, height: int = 900) -> None:
        """Set the size of the window in pixels, and the color scheme light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", mobile=False, **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self) -> bytes:
        """What stands in the window, as a PNG file."""
        actual = self.call("Page.captureScreenshot")
        return base64.b64decode(actual["data"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            received = os.read(self._answers, 1 << 20)
            assert received, "the browser has ended"
            self._left += received
        whole, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(whole)
        return message

    def _note(self, message: dict[str, Any]) -> str:
        method, parameters = message.get("method", ""), message.get("params", {})
        shouted = method == "Runtime.consoleAPICalled" and parameters["type"] != "log"
        fetched = method == "Network.requestWillBeSent" and not parameters["request"][
            "url"
        ].startswith(("data:", "file:"))
        if shouted or fetched or method in {"Runtime.exceptionThrown", "Log.entryAdded"}:
            self.complaints.append(json.dumps(parameters)[:500])
        return method


@contextmanager
def running_browser(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, ended at the end."""
    (to_read, commands), (answers, to_write) = os.pipe(), os.pipe()
    # The protocol wants descriptors 3 and 4; a shell can say so.
    flags = [*FLAGS, f"--user-data-dir={profile}", "about:blank"]
    script = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
    process = subprocess.Popen(
        ["bash", "-c", script, program, *flags],
        pass_fds=(to_read, to_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)  # which ends the browser
        process.wait(timeout=30)
        os.close(answers)
