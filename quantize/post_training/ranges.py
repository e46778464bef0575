"""Activation ranges, measured on calibration images."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from effkeras.litert.flatbuffer import Operator, interface, operators
from effkeras.support.errors import EffkerasError, did_you_mean
from quantize.post_training.activations import Activation, measured, tensors_of
from quantize.specs import RangeMethod

Ranges = dict[str, dict[str, np.ndarray]]

METHODS = ("minmax", "percentile", "mse")
PIXELS = (0.0, 255.0)

NOTHING_SHOWN = "none of the calibration images could be read; check --data"

# These pass values on unchanged: clipping before them clips the model's output.
_PASSES_ON = ("RESHAPE", "CONCATENATION", "TRANSPOSE")

# Values sampled of one activation for one image: over all images enough for a percentile, and fast.
_COUNTED = 2**15


@dataclass(frozen=True, slots=True)
class RangeRule:
    """How a range is derived from values.

    "minmax": their extremes; "percentile": the shortest range with that share of them; "mse": the range with
    the least squared error when divided into `steps`.
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
        """The range for the values in a histogram."""
        if self.method == "percentile":
            return percentile_range(histogram, self.percentile)
        return mse_range(histogram, self.steps)


def measure_ranges(flatbuffer: bytes, inputs: Iterable[np.ndarray], rule: RangeRule | None = None) -> Ranges:
    """Runs a float model on `inputs` and measures the range of every activation, by tensor name.

    The order of the images does not matter. Outputs of the model always keep their extremes, which are the
    detections. A tensor that is only concatenated with others has the range of the concatenation. The result
    is a calibration result for ai-edge-quantizer.

    Args:
        flatbuffer: a float .tflite.
        inputs: its inputs, float32 (1, H, W, C) each; iterated more than once.
        rule: how ranges are derived from values; default: the extremes.

    Raises:
        EffkerasError: there are no inputs, or a layer outputs NaN or infinite values.
    """
    rule = rule or RangeRule()
    clipped = set() if rule.method == "minmax" else _clippable(flatbuffer)
    extremes: dict[str, Extremes] = {}
    histograms: dict[str, Histogram] = {}
    held = {tensor.name: Lock() for tensor in tensors_of(flatbuffer)}

    def measure(seen: Activation) -> None:
        with held[seen.name]:  # threads measure different images
            if seen.name in clipped:
                histograms.setdefault(seen.name, Histogram()).add(_sample(seen.values))
            else:
                extremes.setdefault(seen.name, Extremes()).add(seen.low, seen.high)

    deque(measured(flatbuffer, inputs, measure), maxlen=0)
    found: dict[str, Extremes | Histogram] = {**extremes, **histograms}
    if not found:
        raise EffkerasError(NOTHING_SHOWN)
    ranges = {name: _range(values, rule) for name, values in found.items()}
    _pass_on(ranges, operators(flatbuffer), {edge.tensor for edge in interface(flatbuffer).outputs})
    return {name: as_range(*extent) for name, extent in ranges.items()}


def check_shown(flatbuffer: bytes, inputs: Iterable[np.ndarray]) -> None:
    """Raises EffkerasError, as `measure_ranges` does, if there are no inputs, or NaN or infinite values."""
    if not sum(1 for _ in measured(flatbuffer, inputs, lambda seen: None)):
        raise EffkerasError(NOTHING_SHOWN)


class Extremes:
    """The smallest and largest of all values."""

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf

    def add(self, low: float, high: float) -> None:
        """Adds the extremes of an array."""
        self.low, self.high = min(self.low, low), max(self.high, high)


def as_range(low: float, high: float) -> dict[str, np.ndarray]:
    """A range in the format of ai-edge-quantizer."""
    return {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}


def scale_of(limits: Mapping[str, np.ndarray], bits: int = 8) -> float:
    """The scale of a range, extended to include 0."""
    low, high = float(np.min(limits["min"])), float(np.max(limits["max"]))
    return (max(high, 0.0) - min(low, 0.0)) / (2**bits - 1)


def _pass_on(ranges: dict[str, tuple[float, float]], graph: Sequence[Operator], given: set[int]) -> None:
    """Gives the outputs of operators that only move values the range of their inputs.

    Sampled ranges would differ. A concatenation has the range of all its inputs. An input without other
    readers gets the output's range: otherwise an extra operator would round it again. `given` are the model's
    outputs, which the caller reads.
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


def _sample(values: np.ndarray) -> np.ndarray:
    """Evenly spaced values that cover every channel."""
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


BINS = 4096
_FINEST = 2.0**-40  # of the largest value: narrower bins would only resolve rounding
_CANDIDATES = 65
_EXACT = range(-126, 1)  # exponents of widths by which float32 values are divided without rounding


class Histogram:
    """Counts of values in bins whose width is a power of two.

    Bin edges are integer multiples of the width, which is the smallest that needs at most `BINS` bins. When
    the range grows, whole bins merge exactly, so the order of the data does not matter.
    """

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf
        self.zeros = 0
        self._exponent = -(10**6)  # no values yet: narrower than any width
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Counts all values of an array, float32, which must be finite and not empty."""
        row = np.ravel(values)
        low, high = float(row.min()), float(row.max())
        if low < self.low or high > self.high:
            self._grow(low, high)
        self.zeros += int(np.count_nonzero(row == 0))
        self._counts += np.bincount(self._bins_of(row), minlength=len(self._counts))

    def _bins_of(self, row: np.ndarray) -> np.ndarray:
        """The number of the bin of each value, int64; exact, because the width is a power of two.

        In float32, twice as fast as float64, it is so too unless products underflow or are beyond 2**24.
        """
        is_exact = row.dtype == np.float32 and self._exponent in _EXACT
        is_exact = is_exact and abs(self._first) + len(self._counts) < 2**24
        scaled = row * (np.float32 if is_exact else np.float64)(2.0**-self._exponent)
        if self._first == 0:  # the cast rounds towards zero, which is down
            return scaled.astype(np.int64)  # type: ignore[no-any-return]
        np.floor(scaled, out=scaled)
        scaled -= self._first
        return scaled.astype(np.int64)  # type: ignore[no-any-return]

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0**self._exponent

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin, float64."""
        return (np.arange(len(self._counts)) + self._first + 0.5) * self.width

    @property
    def counts(self) -> np.ndarray:
        """The number of values in each bin, int64."""
        return self._counts

    def _grow(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        exponent = max(self._exponent, _exponent(self.low, self.high))
        first, last = (math.floor(value * 2.0**-exponent) for value in (self.low, self.high))
        grown = np.zeros(last - first + 1, np.int64)
        if len(self._counts):
            old = np.arange(len(self._counts)) + self._first
            np.add.at(grown, (old >> (exponent - self._exponent)) - first, self._counts)
        self._exponent, self._first, self._counts = exponent, first, grown


def percentile_range(histogram: Histogram, share: float) -> tuple[float, float]:
    """The shortest range that holds 0 and at least `share` (0..1) of the values."""
    ends = np.cumsum(histogram.counts)
    starts = ends - histogram.counts
    last = np.searchsorted(ends, starts + math.ceil(share * ends[-1] - 1e-9))
    lengths = np.where(last < len(ends), last - np.arange(len(ends)), len(ends))
    first = int(np.argmin(lengths))
    half, centers = histogram.width / 2, histogram.centers
    low = max(centers[first] - half, histogram.low)
    high = min(centers[min(last[first], len(ends) - 1)] + half, histogram.high)
    return min(low, 0.0), max(high, 0.0)


def mse_range(histogram: Histogram, steps: int = 255) -> tuple[float, float]:
    """The range that holds 0 and has the least mean squared error when divided into equal steps.

    The squared error of a value inside is a twelfth of the squared step on average (zeros are exact), that of
    a value outside is its squared distance from the range. Both ends are fractions of the extremes.
    """
    fractions = np.linspace(0, 1, _CANDIDATES)
    lows = np.unique(min(histogram.low, 0.0) * fractions)
    highs = np.unique(max(histogram.high, 0.0) * fractions)
    below, count_below = _beyond(histogram, lows, side=-1)
    above, count_above = _beyond(histogram, highs, side=1)
    inside = histogram.counts.sum() - histogram.zeros - count_below[:, None] - count_above
    step = (highs - lows[:, None]) / steps
    loss = below[:, None] + above + np.maximum(inside, 0) * step**2 / 12
    row, column = np.unravel_index(np.argmin(loss), loss.shape)
    return float(lows[row]), float(highs[column])


def _beyond(histogram: Histogram, limits: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each limit, the summed squared distance of the values beyond it, and their number."""
    centers, counts = histogram.centers, histogram.counts
    distance = (centers - limits[:, None]) if side > 0 else (limits[:, None] - centers)
    np.maximum(distance, 0, out=distance)
    np.square(distance, out=distance)
    distance *= counts.astype(np.float64)
    below = np.append(0, np.cumsum(counts))  # the number of values in the bins before each
    if side > 0:
        return distance.sum(axis=1), below[-1] - below[np.searchsorted(centers, limits, "right")]
    return distance.sum(axis=1), below[np.searchsorted(centers, limits, "left")]


def _exponent(low: float, high: float) -> int:
    """The smallest exponent of 2 that divides low..high into at most `BINS` bins."""
    width = max((high - low) / BINS, max(abs(low), abs(high)) * _FINEST, 1e-300)
    exponent = math.floor(math.log2(width))
    while math.floor(high * 2.0**-exponent) - math.floor(low * 2.0**-exponent) >= BINS:
        exponent += 1
    return exponent
