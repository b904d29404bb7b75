"""Drives a headless Chromium over its debugging pipe: what tests and screenshots need, with the standard library alone.

It never sleeps for a fixed time: before a click it waits until the element exists, is visible, does not move and is not
covered.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BINARY = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-search-engine-choice-screen",
    "--password-store=basic",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE_S = 30.0
POLL_S = 0.05
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, "")}

# Elements of a selector, visible ones first, whose own words contain a text; the innermost one counts.
FIND = """(selector, text) => {
  const words = (e) => (e.innerText ?? e.textContent ?? "").trim() || e.value || e.getAttribute("aria-label") || "";
  const seen = (e) => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const fits = (e) => seen(e) && (text === null || words(e).includes(text));
  const matches = [...document.querySelectorAll(selector)].filter(fits);
  return matches.find((e) => !matches.some((other) => other !== e && e.contains(other))) ?? null;
}"""
ON_TOP = """(selector, text) => {
  const e = find(selector, text);
  if (e === null || e.disabled) return null;
  e.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
  const r = e.getBoundingClientRect();
  const x = r.left + r.width / 2, y = r.top + r.height / 2;
  const top = document.elementFromPoint(x, y);
  return top !== null && (e.contains(top) || top.contains(e)) ? [x, y] : null;
}"""
AT = f"(find => {ON_TOP})({FIND})"


class Chromium:
    """A browser with one window; use ``started``."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        """Start the browser."""
        if BINARY is None:
            raise FileNotFoundError("there is no chromium on the path")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [BINARY, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self.console: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> Any:
        """Send a command of the DevTools protocol and give its result."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]
            self._note(answer)

    def run(self, script: str, *arguments: Any) -> Any:
        """Evaluate ``script``, a function, with these arguments; give its (awaited) value."""
        given = ", ".join(json.dumps(argument) for argument in arguments)
        answer = self.call("Runtime.evaluate", expression=f"({script})({given})", awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, what: str, script: str, *arguments: Any, patience_s: float = PATIENCE_S) -> Any:
        """Return the first true value of ``script``; fail, saying what was awaited and what is shown."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                value = self.run(script, *arguments)
            except RuntimeError as error:  # a page that is being left
                value = None
                last = str(error)
            else:
                last = ""
            if value:
                return value
            time.sleep(POLL_S)
        shown = self.text()[:1500]
        raise AssertionError(f"waited {patience_s:.0f} s for {what} {last}\non {self.url}:\n{shown}")

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is loaded."""
        self.call("Page.navigate", url=url)
        self.wait(f"{url} to load", "() => document.readyState === 'complete' && location.href !== 'about:blank'")

    def see(self, text: str, selector: str = "body", patience_s: float = PATIENCE_S) -> None:
        """Wait until a visible element of that selector has this text."""
        self.wait(
            f"'{text}' in {selector}", f"(s, t) => ({FIND})(s, t) !== null", selector, text, patience_s=patience_s
        )

    def click(self, selector: str, text: str | None = None) -> None:
        """Click an element, once it exists, does not move and is not covered."""
        what, last = f"{selector} '{text or ''}' to click", None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            place = self.wait(what, AT, selector, text)
            if place == last:
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} does not come to rest")
            last = place
            time.sleep(POLL_S)
        x, y = place
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector: str, text: str | None = None) -> None:
        """Move the mouse onto an element."""
        x, y = self.wait(f"{selector} to point at", AT, selector, text)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def fill(self, selector: str, text: str) -> None:
        """Replace the text of a field."""
        self.click(selector)
        self.run("(s) => document.querySelector(s).select()", selector)
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, control: bool = False) -> None:
        """Press a key: a character, or one of ``KEYS``."""
        code, typed = KEYS.get(key, (ord(key.upper()[0]), key))
        name = key if key in KEYS else (f"Digit{key}" if key.isdigit() else f"Key{key.upper()}")
        for kind in ("keyDown", "keyUp"):
            more = {"text": typed} if kind == "keyDown" and typed and not control else {}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=name,
                windowsVirtualKeyCode=code,
                modifiers=2 if control else 0,
                **more,
            )

    def text(self) -> str:
        """Return the words on the page."""
        return str(self.run("() => document.body.innerText"))

    @property
    def url(self) -> str:
        """The address of the page."""
        return str(self.run("() => location.href"))

    def resize(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        """Give the window another size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark`` pages."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is shown, or the whole page, as PNG."""
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 16)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description") or details["text"])
        if event.get("method") == "Page.javascriptDialogOpening":
            self.call("Page.handleJavaScriptDialog", accept=True)


@contextmanager
def started(profile: Path, **size: int) -> Iterator[Chromium]:
    """Run a browser during a block."""
    browser = Chromium(profile, **size)
    try:
        yield browser
    finally:
        browser.close()
