"""LiteRT.js in a headless Chromium: WebAssembly with XNNPACK, as a page runs it.

A run is timed inside the page, because the way to the browser and back takes longer than a small network. As
in a page, it includes writing the input and reading the outputs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support.errors import EffkerasError
from effkeras.support.measurements import Delegation
from export.delegates.delegate import DELEGATES, UnusableError

if TYPE_CHECKING:
    from effkeras.litert.latency import Session
    from export.web.browser import Browser, Page

_TYPES = ("float32", "uint8")  # what LiteRT.js takes
_INDEX = """<!DOCTYPE html><meta charset="utf-8"><title>effkeras</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"@litertjs/wasm-utils": "./loader.js"}}</script>"""
# Loads a model into the page, which keeps `once` for the timed runs; whether all of it is accelerated.
_OPEN = """(async ({file, input, name, dtype, shape, threads}) => {
  const litert = await import("./litert/index.js");
  await litert.loadLiteRt("./litert/wasm/", threads > 1 ? {threads: true} : {});
  const cpuOptions = {numThreads: threads};
  const model = await litert.loadAndCompile(file, {accelerator: "wasm", cpuOptions});
  const bytes = await (await fetch(input)).arrayBuffer();
  const values = dtype === "uint8" ? new Uint8Array(bytes) : new Float32Array(bytes);
  globalThis.once = async () => {
    const begun = performance.now();
    const tensor = new litert.Tensor(values, shape);
    const made = await model.run({[name]: tensor});
    for (const one of Object.values(made)) { await one.data(); one.delete(); }
    const took = performance.now() - begun;
    tensor.delete();
    return took;
  };
  await once();
  return Boolean(model.isFullyAccelerated);
})"""


@dataclass(eq=False)
class _Host:
    """A browser and a server that the sessions share; both end with the last session."""

    browser: Browser
    folder: Path
    address: str
    versions: Mapping[str, str]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def start(cls) -> _Host:
        """Starts both. Raises EffkerasError if the browser or LiteRT.js is missing."""
        from importlib.resources import files

        from export.web.browser import open_browser
        from export.web.runtime import find_runtime
        from export.web.server import serving

        runtime = find_runtime()
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="effkeras-")))
            runtime.copy_to(folder)
            (folder / "index.html").write_text(_INDEX, "utf-8")
            loader = files("export.web").joinpath("assets", "loader.js")
            (folder / "loader.js").write_bytes(loader.read_bytes())
            address = stack.enter_context(serving(folder))
            browser = stack.enter_context(open_browser())
            versions = {"litert_js": runtime.version, "browser": browser.version}
            host = cls(browser, folder, address, versions)
            weakref.finalize(host, stack.pop_all().close)
            return host

    def open(self, flatbuffer: bytes, threads: int) -> WebSession:
        """Loads a file in a new tab. Raises UnusableError, with the runtime's reason, if that fails."""
        from effkeras.litert.flatbuffer import interface, operators
        from effkeras.litert.latency import random_image
        from export.web.browser import BrowserError

        sides, number = interface(flatbuffer), next(self.numbers)
        odd = next((one for one in (*sides.inputs, *sides.outputs) if one.dtype not in _TYPES), None)
        if odd or len(sides.inputs) != 1:
            what = f"{odd.name} is {odd.dtype}" if odd else f"it has {len(sides.inputs)} inputs"
            raise UnusableError(f"LiteRT.js takes one input and {' or '.join(_TYPES)} only, and {what}")
        (given,) = sides.inputs
        (self.folder / f"{number}.tflite").write_bytes(flatbuffer)
        (self.folder / f"{number}.bin").write_bytes(random_image(given.shape, given.dtype).tobytes())
        about = {"file": f"{number}.tflite", "input": f"{number}.bin", "threads": threads}
        about |= {"name": given.name, "dtype": given.dtype, "shape": given.shape}
        page = self.browser.new_page()
        try:
            page.go(self.address)
            whole = page.evaluate(f"{_OPEN}({json.dumps(about)})")
        except BrowserError as error:
            raise UnusableError(f"LiteRT.js does not run the file ({error})") from error
        total = len(operators(flatbuffer))
        delegation = Delegation(total, total if whole else None, 1 if whole else None, whole)
        return WebSession(self, page, delegation)


# The running host, while any session needs it.
_hosts: weakref.WeakValueDictionary[str, _Host] = weakref.WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class WebSession:
    """A file in a tab of the browser."""

    host: _Host
    page: Page
    taken: Delegation

    def run(self) -> float:
        """Runs one inference; the milliseconds that it took in the page."""
        return float(self.page.evaluate("once()"))

    def delegation(self) -> Delegation:
        """The delegation; LiteRT.js reports only whether it accelerates every operator."""
        return self.taken

    def details(self) -> Mapping[str, str]:
        """The versions of LiteRT.js and of the browser."""
        return self.host.versions


@dataclass(frozen=True, slots=True)
class Web:
    """LiteRT.js with 1..n threads in a browser with the headers that threads need."""

    name: str = "web"
    title: str = "LiteRT.js"
    how_to_get: str = (
        "install Chromium or Chrome (on Debian: apt-get install chromium), and npm, which fetches LiteRT.js"
    )
    takes_threads: bool = True
    in_process: bool = False

    def missing(self) -> str | None:
        """The reason if there is no browser, or LiteRT.js is neither here nor to be fetched, else None."""
        from export.web.browser import find_browser
        from export.web.runtime import available

        return available() if find_browser() else "there is no Chromium here that a pipe can drive"

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError if it cannot run here, EffkerasError if corrupt."""
        from effkeras.litert.verify import verified

        verified(flatbuffer)
        reason = self.missing()
        if reason is not None:
            raise UnusableError(reason)
        host = _hosts.get(self.name)
        if host is None:
            try:
                host = _hosts[self.name] = _Host.start()
            except UnusableError:
                raise
            except EffkerasError as error:
                raise UnusableError(str(error)) from error
        return host.open(flatbuffer, threads)


DELEGATES.register("web")(Web())
