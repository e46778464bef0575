"""What tests of the web page share: a runtime that computes nothing, and calls of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.web.browser import Page
from export.web.runtime import pinned

# It keeps the last input in `fed`, and answers with the arrays of answers.js.
_FAKE = """
import { answers } from "./answers.js";

export const getGlobalLiteRt = () => ({ liteRtWasm: { getThreadCount: () => 4 } });
export const supportsFeature = async () => true;
export const loadLiteRt = async (folder, options) => { globalThis.loaded = options; };
export class Tensor {
  constructor(values, shape) { Object.assign(this, { values, shape }); }
  async data() { return this.values; }
  delete() {}
}
export async function loadAndCompile(url, options) {
  globalThis.compiled = options;
  const run = async (given) => {
    globalThis.fed = Object.values(given)[0].values;
    const tensor = (values) => new Tensor(Float32Array.from(values));
    return Object.fromEntries(Object.entries(answers).map(([name, values]) => [name, tensor(values)]));
  };
  return { run };
}
"""


def fake_runtime(folder: Path, version: str | None = None) -> Path:
    """A package of npm's layout that stands in for LiteRT.js; see `answer`."""
    wanted = pinned()
    for name in wanted.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / wanted.module).write_text(_FAKE)
    described = {"name": wanted.package, "version": version or wanted.version}
    (folder / "package.json").write_text(json.dumps(described))
    return folder


def answer(page: Path, outputs: Mapping[str, np.ndarray]) -> None:
    """Sets what the network of a page with the fake runtime answers to every image."""
    arrays = {name: np.asarray(values, np.float32).ravel().tolist() for name, values in outputs.items()}
    (page / "litert" / "answers.js").write_text(f"export const answers = {json.dumps(arrays)};")


def prediction(page: Page, path: str, min_score: float) -> dict[str, Any]:
    """What the open page finds in an image of its folder."""
    return page.evaluate(
        "(async () => { const { pixelsOf } = await import('./model.js'); const model = await effkeras;"
        f" const blob = await (await fetch({json.dumps(path)})).blob();"
        f" return model.predict(await pixelsOf(blob), {min_score}); }})()"
    )


def messages(page: Page) -> list[str]:
    """The page's messages, apart from the runtime's log and from the lack of a GPU."""
    known = ("debug:", "warning: No available adapters", "warning: Failed to create default WebGPU device")
    return [one for one in page.messages if not one.startswith(known)]
