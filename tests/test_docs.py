"""The pages of docs/ name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from effkeras.data.formats import FORMATS, writable

YOUR_DATA = (Path(__file__).parents[1] / "docs" / "your-data.md").read_text("utf-8")


def test_every_format_has_its_row():
    rows = dict(re.findall(r"(?m)^\| ([^|]+?) \|.*\| *`?([a-z-]*)`? *\|$", YOUR_DATA))
    for name, entry in FORMATS.entries().items():
        assert rows[entry.title] == (name if name in writable() else ""), entry.title
