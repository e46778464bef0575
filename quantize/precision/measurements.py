"""Measurements of artifacts: the metric that `effkeras eval` gives, and what is kept of them on disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.data.records import LabelledData
from effkeras.inference.evaluate import evaluate, headline, headlines
from effkeras.litert.runner import LiteRTModel
from effkeras.support.files import write_text

Metrics = dict[str, float]


def worst_drop(wanted: Mapping[str, float], got: Mapping[str, float]) -> float:
    """The largest loss among metrics; infinite if one is not a number."""
    drops = [wanted[name] - got[name] for name in wanted]
    return math.inf if any(map(math.isnan, drops)) else max(drops)


@dataclass(frozen=True, eq=False, slots=True)
class MetricOf:
    """Measures artifacts on the first `limit` images of `data`."""

    data: LabelledData
    limit: int | None = None

    def __call__(self, flatbuffer: bytes) -> Metrics:
        """The metrics that the model is judged by, the higher the better; one for each of its heads."""
        runner = LiteRTModel.of_bytes(flatbuffer)
        measured = evaluate(runner, self.data, limit=self.limit, title="measuring")
        return {name: measured[name] for name in headlines(runner.spec)}

    def headline(self, flatbuffer: bytes) -> float:
        """The first of them."""
        return self(flatbuffer)[headline(LiteRTModel.of_bytes(flatbuffer).spec)]


class MeasurementCache:
    """Values by name, written to a JSON file whenever one is added; without a path, kept in cache only.

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
