"""Headless Chromium for tests that look at a page as a reader does."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Browser:
    """Headless Chromium, spoken to over its DevTools pipe: messages are JSON, each ended by a zero byte."""

    commands: io.FileIO
    messages: io.FileIO
    requests: list[str]
    errors: list[str] = field(default_factory=list)
    session: str | None = None
    _last: int = 0
    _buffer: bytes = b""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                chunk = self.messages.read(1 << 16)
                assert chunk, "Chromium has ended"
                self._buffer += chunk
            raw, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(raw)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            self._note_error(answer)
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _note_error(self, answer: dict[str, Any]) -> None:
        """Keep what a page's console shows in red, once `Runtime` and `Log` are enabled."""
        params = answer.get("params", {})
        match answer.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.errors.append(str([argument.get("value") for argument in params["args"]]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def press(self, key: str) -> None:
        """Press a key, such as `Tab`, `Enter` or `a`."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40}.get(key, 0)
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def wait_for(self, expression: str, seconds: float = 120.0) -> Any:
        """The value of a JavaScript expression, once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, (expression, self.errors, self.evaluate("document.body.innerText"))
            time.sleep(0.05)
        return value

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium")
        pytest.skip("there is no Chromium")
    command_read, command_write = os.pipe()
    message_read, message_write = os.pipe()
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    script = f'exec "$@" 3<&{command_read} 4>&{message_write}'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", program, *flags.split(), "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--remote-debugging-pipe"],
        pass_fds=(command_read, message_write), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(command_read)
    os.close(message_write)
    with io.FileIO(command_write, "w") as commands, io.FileIO(message_read) as messages:
        browser = Browser(commands, messages, [])
        try:
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            yield browser
        finally:
            process.terminate()
            process.wait(timeout=300)
