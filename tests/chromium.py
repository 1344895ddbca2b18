"""A real browser for tests: Debian's Chromium without a window, spoken to through a pipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

PROGRAM = shutil.which("chromium")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Chromium:
    """One tab; `profile` is an empty folder for what the browser keeps.

    Attributes:
        requests: the address of everything the tab has loaded or tried to load.
        problems: exceptions nobody caught, and what the console was told as errors.
    """

    def __init__(self, profile: Path) -> None:
        (their_end, self._commands), (self._answers, their_other_end) = os.pipe(), os.pipe()
        # The browser reads commands from its file 3 and writes answers to its file 4.
        redirections = f"exec 3<&{their_end} 4>&{their_other_end}"
        options = [*OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'{redirections}; exec "$0" "$@"', PROGRAM, *options, "about:blank"],
            pass_fds=(their_end, their_other_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_end)
        os.close(their_other_end)
        self._received, self._number, self._session = b"", 0, None
        self.requests: list[str] = []
        self.problems: list[str] = []
        (tab,) = (
            target["targetId"]
            for target in self.call("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        )
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters):
        """What the browser answers to a command of its DevTools protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._commands, content) :]
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        parts = []
        while b"\0" not in self._received:
            parts.append(self._received)
            self._received = os.read(self._answers, 1 << 20)
            assert self._received, "the browser has ended"
        end, self._received = self._received.split(b"\0", 1)
        return json.loads(b"".join([*parts, end]))

    def _note(self, event: dict) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.resolve().as_uri())

    def run(self, script: str):
        """The value of an expression; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
