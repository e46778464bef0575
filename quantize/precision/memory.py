"""Results of long searches, kept in a file so that a killed search goes on where it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from effkeras.files import write_text


class Memory:
    """Values by name, written to a JSON file whenever one is added; without a path, kept in memory only.

    What another search has kept under the same path counts only if its `key` is the same.
    """

    def __init__(self, path: Path | None = None, key: str = "") -> None:
        self._path = path
        self._key = key
        self._values: dict[str, Any] = self._read()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value
        if self._path is not None:
            write_text(self._path, json.dumps({"key": self._key, "values": self._values}, indent=1) + "\n")

    def _read(self) -> dict[str, Any]:
        if self._path is None or not self._path.is_file():
            return {}
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return dict(kept["values"]) if kept["key"] == self._key else {}
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            return {}  # what cannot be read is measured again


def digest(*parts: bytes | str) -> str:
    """A short name for exactly these contents."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
        whole.update(b"\0")
    return whole.hexdigest()[:24]
