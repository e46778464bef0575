"""A headless Chromium, driven through a pipe with the Chrome DevTools Protocol.

The protocol is https://chromedevtools.github.io/devtools-protocol/. A message is JSON that ends with a zero
byte; the browser reads descriptor 3 and writes descriptor 4. No further package is needed.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from effkeras.support.errors import EffkerasError

PATIENCE = 120.0  # seconds that one answer may take
HOW_TO_GET = "install Chromium or Chrome; on Debian: apt-get install chromium"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ON_MAC = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",  # a container's /dev/shm is small
    "--hide-scrollbars",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
)


class BrowserError(EffkerasError):
    """The browser is missing, does not start, or a page failed in it; the message has the reason."""


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome; None without one, or where the pipe is not to be had."""
    if sys.platform == "win32":  # which cannot hand down descriptors 3 and 4
        return None
    found = (shutil.which(name) for name in (*_PROGRAMS, *_ON_MAC))
    return next((one for one in found if one), None)


@dataclass(eq=False)
class Page:
    """A tab. `messages` collects what the page logs, and its errors; an image or file that is missing too."""

    browser: Browser
    session: str
    messages: list[str] = field(default_factory=list)

    def go(self, url: str) -> None:
        """Opens an address; returns when the page and its images are loaded."""
        self._send("Page.navigate", url=url)
        self.evaluate(
            f"new Promise(done => {{ const again = () => location.href.startsWith({json.dumps(url)}) && "
            "document.readyState === 'complete' ? done() : setTimeout(again, 20); again(); })"
        )

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, of a promise its result. Raises BrowserError if it throws."""
        answer = self._send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        failure = answer.get("exceptionDetails")
        if failure:
            raise BrowserError(_described(failure))
        return answer["result"].get("value")

    def show_as(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Sets the size of the window in CSS pixels, and whether it is dark, and a phone's."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str, code: int) -> None:
        """Presses a key, such as "Tab", with its Windows key code."""
        for kind in ("keyDown", "keyUp"):
            self._send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=""
            )

    def screenshot(self, *, whole: bool = True) -> bytes:
        """A PNG of the window, or of the whole page."""
        shot = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def _send(self, method: str, **options: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **options)

    def take(self, method: str, about: dict[str, Any]) -> None:
        """Collects what an event reports."""
        if method == "Runtime.consoleAPICalled":
            words = (str(one.get("value", one.get("description", ""))) for one in about["args"])
            self.messages.append(f"{about['type']}: {' '.join(words)}")
        elif method == "Runtime.exceptionThrown":
            self.messages.append(f"exception: {_described(about['exceptionDetails'])}")
        elif method == "Log.entryAdded":
            entry = about["entry"]
            self.messages.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}".strip())


@dataclass(eq=False)
class Browser:
    """A running browser; `version` is such as "Chrome/150.0.7871.100"."""

    process: subprocess.Popen[bytes]
    to: int
    back: int
    version: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _received: bytearray = field(default_factory=bytearray)
    _pages: dict[str, Page] = field(default_factory=dict)

    def new_page(self) -> Page:
        """An empty tab."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable", session)
        return page

    def send(self, method: str, session: str | None = None, **options: Any) -> dict[str, Any]:
        """Sends a command and waits for its result. Raises BrowserError if it fails or takes too long."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": options}
        if session is not None:
            command["sessionId"] = session
        try:
            self._write(json.dumps(command).encode() + b"\0")
        except OSError as error:
            raise BrowserError(f"the browser has ended ({error})") from error
        until = time.monotonic() + PATIENCE
        while True:
            message = self._next(until)
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            page = self._pages.get(message.get("sessionId", ""))
            if page is not None and "method" in message:
                page.take(message["method"], message["params"])

    def _write(self, content: bytes) -> None:
        while content:
            content = content[os.write(self.to, content) :]

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self.back], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise BrowserError(f"the browser did not answer within {PATIENCE:.0f} s")
            block = os.read(self.back, 1 << 16)
            if not block:
                raise BrowserError("the browser has ended; see whether it starts by hand")
            self._received += block
        text, _, rest = self._received.partition(b"\0")
        self._received = rest
        return dict(json.loads(text))


@contextlib.contextmanager
def open_browser(*options: str) -> Iterator[Browser]:
    """Starts a headless browser with an empty profile, and ends it with the body.

    Args:
        options: further options of the command line, such as "--lang=de".

    Raises:
        BrowserError: no browser is installed, or it does not start.
    """
    program = find_browser()
    if program is None:
        raise BrowserError(f"there is no Chromium here; {HOW_TO_GET}")
    # Chromium's own sandbox does not start for root, as in containers; the pages are ours.
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory(prefix="effkeras-", ignore_cleanup_errors=True) as profile:
        words = [program, *_OPTIONS, *as_root, *options, f"--user-data-dir={profile}", "about:blank"]
        with _started(words) as browser:
            browser.version = browser.send("Browser.getVersion")["product"]
            yield browser


@contextlib.contextmanager
def _started(words: list[str]) -> Iterator[Browser]:
    """Runs the program with the pipe as descriptors 3 and 4; a shell moves them there."""
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    script = f'exec 3<&{to_read} 4>&{back_write}; exec "$0" "$@"'
    # bash: descriptors above 9 are not POSIX for `exec`, though any of ours may have such a number.
    command = [shutil.which("bash") or "/bin/sh", "-c", script, *words]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(to_read, back_write),
        start_new_session=True,
    )
    os.close(to_read)
    os.close(back_write)
    browser = Browser(process, to_write, back_read)
    try:
        yield browser
    finally:
        _end(browser)


def _end(browser: Browser) -> None:
    with contextlib.suppress(BrowserError):
        browser.send("Browser.close")
    try:
        browser.process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        browser.process.kill()
        browser.process.wait()
    for descriptor in (browser.to, browser.back):
        os.close(descriptor)


def _described(failure: dict[str, Any]) -> str:
    text = failure.get("exception", {}).get("description") or failure.get("text", "")
    return " ".join(str(text).split()[:40])
