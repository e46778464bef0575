"""The ranges that activations take, measured on pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.errors import EffkerasError, did_you_mean
from effkeras.litert.flatbuffer import Operator, operators
from effkeras.litert.interface import interface
from quantize.post_training.histograms import Histogram, mse_range, percentile_range
from quantize.post_training.observing import Activation, observe
from quantize.specs import RangeMethod

Ranges = dict[str, dict[str, np.ndarray]]

METHODS = ("minmax", "percentile", "mse")

NOTHING_SHOWN = "none of the calibration pictures could be read; check --data"

# These hand values on as they are: clipping before them clips the model's output.
_PASSES_ON = ("RESHAPE", "CONCATENATION", "TRANSPOSE")

# Of one activation for one picture: over all pictures enough for a percentile, and calibration stays quick.
_COUNTED = 2**15


@dataclass(frozen=True, slots=True)
class RangeRule:
    """How a range follows from the values: their extremes, the shortest one that holds the share
    `percentile`, or the one with the least squared error when divided into `steps`.
    """

    method: RangeMethod = "minmax"
    percentile: float = 0.9999
    steps: int = 255

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            hint = did_you_mean(self.method, METHODS)
            raise EffkerasError(f"there are no ranges by {self.method!r}; {hint}")
        if not 0 < self.percentile <= 1:
            raise EffkerasError(
                f"percentile = {self.percentile}: it is the share of values that a range holds, "
                "above 0 and at most 1, such as 0.9999"
            )

    def of(self, histogram: Histogram) -> tuple[float, float]:
        """The range for these values."""
        if self.method == "percentile":
            return percentile_range(histogram, self.percentile)
        return mse_range(histogram, self.steps)


def measure_ranges(flatbuffer: bytes, inputs: Iterable[np.ndarray], rule: RangeRule | None = None) -> Ranges:
    """Runs a float model on `inputs` and notes every activation's range, by tensor name.

    The order of the pictures does not matter. What the model puts out always keeps its extremes: they are
    the detections. What is only joined with others has the range of all. The result has the form that
    ai-edge-quantizer takes as a calibration result.

    Args:
        flatbuffer: a float .tflite.
        inputs: what it takes, float32 (1, H, W, C) each; they can be gone through again.
        rule: how ranges follow from values; default: the extremes.

    Raises:
        EffkerasError: there are no inputs, or a layer puts out values that are not finite.
    """
    rule = rule or RangeRule()
    clipped = set() if rule.method == "minmax" else _clippable(flatbuffer)
    found: dict[str, Extremes | Histogram] = {}
    for seen in observe(flatbuffer, inputs):
        found.setdefault(seen.name, Histogram() if seen.name in clipped else Extremes())
        _add(found[seen.name], seen)
    if not found:
        raise EffkerasError(NOTHING_SHOWN)
    ranges = {name: _range(values, rule) for name, values in found.items()}
    _pass_on(ranges, operators(flatbuffer), {edge.tensor for edge in interface(flatbuffer).outputs})
    return {name: as_range(*extent) for name, extent in ranges.items()}


def check_shown(flatbuffer: bytes, inputs: Iterable[np.ndarray]) -> None:
    """Raises EffkerasError, as `measure_ranges` does, for inputs that no range can be measured on."""
    if not sum(1 for _ in observe(flatbuffer, inputs)):
        raise EffkerasError(NOTHING_SHOWN)


class Extremes:
    """The smallest and largest of all values."""

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf

    def add(self, low: float, high: float) -> None:
        """Takes the extremes of an array into account."""
        self.low, self.high = min(self.low, low), max(self.high, high)


def as_range(low: float, high: float) -> dict[str, np.ndarray]:
    """A range as ai-edge-quantizer writes it."""
    return {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}


def scale_of(limits: Mapping[str, np.ndarray], bits: int = 8) -> float:
    """The step between two codes of a range, which is made to hold 0."""
    low, high = float(np.min(limits["min"])), float(np.max(limits["max"]))
    return (max(high, 0.0) - min(low, 0.0)) / (2**bits - 1)


def _pass_on(ranges: dict[str, tuple[float, float]], graph: Sequence[Operator], given: set[int]) -> None:
    """Gives what only moves values the range of these values: a sample would say another one.

    What several values are joined in has one range. Whatever nothing else reads is made in it at once: it
    would only be rounded a second time, by an operator of its own. Tensors that are `given` to the caller
    are read.
    """
    for op in graph:
        taken = [ranges[tensor.name] for tensor in op.inputs if tensor.name in ranges]
        if op.name in _PASSES_ON and taken:
            ranges[op.outputs[0].name] = min(low for low, _ in taken), max(high for _, high in taken)
    made = {tensor.index for op in graph for tensor in op.outputs} - given
    readers = Counter(index for op in graph for index in {tensor.index for tensor in op.inputs})
    for op in reversed(graph):
        if op.name in _PASSES_ON:
            own = (tensor for tensor in op.inputs if tensor.index in made and readers[tensor.index] == 1)
            ranges |= {tensor.name: ranges[op.outputs[0].name] for tensor in own if tensor.name in ranges}


def _add(found: Extremes | Histogram, seen: Activation) -> None:
    if isinstance(found, Histogram):
        found.add(_sample(seen.values))
    else:
        found.add(seen.low, seen.high)


def _sample(values: np.ndarray) -> np.ndarray:
    """Evenly spaced values, some of every channel."""
    step = max(1, values.size // _COUNTED)
    while math.gcd(step, values.shape[-1]) != 1:
        step += 1
    return values.ravel()[::step]


def _range(values: Extremes | Histogram, rule: RangeRule) -> tuple[float, float]:
    return rule.of(values) if isinstance(values, Histogram) else (values.low, values.high)


def _clippable(flatbuffer: bytes) -> set[str]:
    graph = operators(flatbuffer)
    used = {tensor.index for op in graph for tensor in op.inputs}
    kept = {tensor.index for op in graph for tensor in op.outputs if tensor.index not in used}
    for op in reversed(graph):
        if op.name in _PASSES_ON and any(tensor.index in kept for tensor in op.outputs):
            kept |= {tensor.index for tensor in op.inputs}
    return {tensor.name for op in graph for tensor in op.outputs if tensor.index not in kept}
