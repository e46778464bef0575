"""Measurements of artifacts: the metrics of `effkeras eval`, the error of outputs, and a cache on disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.data.records import LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.evaluate import evaluate, headline, headlines
from effkeras.litert.flatbuffer import SIGNATURE
from effkeras.litert.runner import LiteRTModel, make_interpreter
from effkeras.support.files import write_text

Metrics = dict[str, float]


def worst_drop(wanted: Mapping[str, float], got: Mapping[str, float]) -> float:
    """The largest drop among metrics; infinite if one is NaN."""
    drops = [wanted[name] - got[name] for name in wanted]
    return math.inf if any(map(math.isnan, drops)) else max(drops)


@dataclass(frozen=True, eq=False, slots=True)
class MetricOf:
    """Measures artifacts on the first `limit` images of `data`."""

    data: LabelledData
    limit: int | None = None

    def __call__(self, flatbuffer: bytes) -> Metrics:
        """The metrics of an artifact, one for each of its heads; higher is better."""
        runner = LiteRTModel.of_bytes(flatbuffer)
        measured = evaluate(runner, self.data, limit=self.limit, title="measuring")
        return {name: measured[name] for name in headlines(runner.spec)}

    def headline(self, flatbuffer: bytes) -> float:
        """The main metric of an artifact."""
        return self(flatbuffer)[headline(LiteRTModel.of_bytes(flatbuffer).spec)]


class MeasurementCache:
    """Values by name, written to a JSON file whenever one is added; without a path, only in memory.

    An existing file is used only if it has the same `key`.
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
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}  # an unreadable cache is measured again


def digest(*parts: bytes | str) -> str:
    """A short digest of these contents."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
        whole.update(b"\0")
    return whole.hexdigest()[:24]


_TINY = 1e-12

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False, slots=True)
class OutputError:
    """The float model's outputs on some images, to compare other outputs with.

    A detector is compared on what matters to detections: class scores as probabilities, so that differences
    between background logits do not count, and boxes weighted by their best score.
    """

    inputs: tuple[np.ndarray, ...]
    wanted: tuple[Outputs, ...]
    is_detector: bool

    @classmethod
    def of(cls, flatbuffer: bytes, inputs: Iterable[np.ndarray], spec: ModelSpec | None) -> OutputError:
        """The reference outputs of a float .tflite for inputs, float32 (1, H, W, C) each."""
        kept = tuple(inputs)
        detects = spec is not None and spec.is_detector and spec.detects
        return cls(kept, tuple(run_all(flatbuffer, kept)), bool(detects))

    def __call__(self, flatbuffer: bytes) -> float:
        """The root mean square error of a model's outputs, as a share of their standard deviation.

        The model has float inputs and outputs. Over several outputs, it is the root mean square of theirs.
        """
        errors: dict[str, float] = {}
        for wanted, got in zip(self.wanted, run_all(flatbuffer, self.inputs), strict=True):
            for name, values in self._differences(wanted, got).items():
                errors[name] = errors.get(name, 0.0) + float(np.square(values, dtype=np.float64).sum())
        spreads = self._spreads()
        shares = [errors[name] / max(spreads[name], _TINY) for name in errors]
        return float(np.sqrt(np.mean(shares)))

    def _differences(self, wanted: Outputs, got: Outputs) -> dict[str, np.ndarray]:
        seen = self._weighted(wanted, wanted), self._weighted(got, wanted)
        return {name: seen[1][name] - seen[0][name] for name in seen[0]}

    def _spreads(self) -> dict[str, float]:
        """The sum of squared deviations from the mean of each output, over all images."""
        seen = [self._weighted(one, one) for one in self.wanted]
        joined = {name: np.concatenate([one[name].ravel() for one in seen]) for name in seen[0]}
        return {name: float(values.var(dtype=np.float64)) * values.size for name, values in joined.items()}

    def _weighted(self, outputs: Outputs, wanted: Outputs) -> dict[str, np.ndarray]:
        if not self.is_detector:
            return dict(outputs)
        best = _sigmoid(wanted["class_logits"].max(axis=-1, keepdims=True))
        weighted = {
            "class_logits": _sigmoid(outputs["class_logits"]),
            "box_deltas": outputs["box_deltas"] * np.sqrt(best),
        }
        return {**outputs, **weighted}


def run_all(flatbuffer: bytes, inputs: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """A model's raw outputs by name, for each input."""
    run: Any = make_interpreter(flatbuffer).get_signature_runner(SIGNATURE)
    (name,) = run.get_input_details()
    for pixels in inputs:
        yield {output: values.copy() for output, values in run(**{name: pixels}).items()}


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))
