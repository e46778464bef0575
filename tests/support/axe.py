"""axe-core, which judges whether people can use a page without seeing it or without a mouse.

npm brings it once, into the cache folder, pinned by the checksum that npm publishes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from effkeras.support.files import cache_folder, make_folder, write_bytes
from export.web.browser import Page

_VERSION = "4.10.3"
_SHA512 = "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg=="


def axe_core(folder: Path) -> str:
    """Its source; without npm or a network the test skips. `folder` is empty."""
    kept = cache_folder() / "axe-core" / f"{_VERSION}.js"
    if not kept.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core comes with npm, which is not here")
        words = [npm, "pack", f"axe-core@{_VERSION}", "--ignore-scripts", "--silent"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        archive = next(folder.glob("*.tgz"), None)
        if done.returncode or archive is None:
            pytest.skip(f"npm brings no axe-core: {done.stderr.strip()}")
        content = archive.read_bytes()
        assert base64.b64encode(hashlib.sha512(content).digest()).decode() == _SHA512
        with tarfile.open(fileobj=io.BytesIO(content)) as opened:
            source = opened.extractfile("package/axe.min.js")
            assert source is not None
            make_folder(kept.parent)
            write_bytes(kept, source.read())
    return kept.read_text("utf-8")


def violations(page: Page, source: str) -> list[str]:
    """What axe-core finds wrong with the open page, a line for each rule and element."""
    page.evaluate(f"{source}; 0")
    found: list[dict[str, Any]] = json.loads(
        page.evaluate("axe.run().then(found => JSON.stringify(found.violations))")
    )
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
