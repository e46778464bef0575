"""Corrections of biases and ranges: what rounded weights shift, and what int8 kernels cannot compute.

Bias correction undoes the shift of a layer's mean output that rounded weights cause (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2); here the input means
are measured on images instead of derived from batch normalisation. Ranges are widened for dead filters with
a bias, and for addends far below their sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.litert.fake_quants import SAME_RANGE
from effkeras.litert.flatbuffer import Operator, TensorInfo, interface, operators, real_constants
from effkeras.litert.rewriting import with_constants
from quantize.post_training.activations import Activation, measured
from quantize.post_training.ranges import Ranges, as_range, scale_of

_DEPTHWISE = "DEPTHWISE_CONV_2D"
_WITH_WEIGHTS = ("CONV_2D", _DEPTHWISE, "FULLY_CONNECTED")
_LARGEST_CODE = 127
# The largest quantized bias; the sum of a filter's products needs the rest of 32 bits.
_LARGEST_BIAS = 2**30


@dataclass(frozen=True, slots=True)
class _Pair:
    """An operator with weights in the float model, and the same operator in the quantized model."""

    exact: Operator
    quantized: Operator

    @property
    def bias(self) -> TensorInfo:
        return self.quantized.inputs[2]


def corrected(exact: bytes, quantized: bytes, means: Mapping[str, np.ndarray]) -> bytes:
    """A quantized model whose biases compensate the mean shift that rounding the weights causes.

    All layers are corrected at once, each for the shift that it causes itself. This uses the float model's
    input means, because a corrected layer passes no shift on to the next.

    Args:
        exact: the float .tflite.
        quantized: the quantized .tflite; operators are matched by the names of their outputs.
        means: the channel means of the float model's activations, from `channel_means`.
    """
    pairs = list(_pairs(operators(exact), operators(quantized)))
    weights = real_constants(exact, [pair.exact.inputs[1].index for pair in pairs])
    rounded = real_constants(quantized, [pair.quantized.inputs[1].index for pair in pairs])
    biases = real_constants(quantized, [pair.bias.index for pair in pairs])
    new = {}
    for pair in pairs:
        error = rounded[pair.quantized.inputs[1].index].values - weights[pair.exact.inputs[1].index].values
        shift = _shift(error, means[pair.exact.inputs[0].name], pair.exact.name)
        old = biases[pair.bias.index]
        new[pair.bias.index] = old.codes_of(old.values - shift)
    return with_constants(quantized, new)


def _pairs(exact: Iterable[Operator], quantized: Iterable[Operator]) -> Iterator[_Pair]:
    by_output = {op.outputs[0].name: op for op in exact if op.name in _WITH_WEIGHTS}
    for op in quantized:
        original = by_output.get(op.outputs[0].name)
        has_all = original is not None and op.name == original.name and len(op.inputs) == 3
        if has_all and op.inputs[1].is_constant and op.inputs[2].is_constant:
            yield _Pair(original, op)  # type: ignore[arg-type]


def channel_means(exact: bytes, inputs: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The mean of each input channel of layers with weights over all images: float64 (C,) by tensor name.

    Args:
        exact: the float .tflite.
        inputs: its inputs, float32 (1, H, W, C) each; iterated more than once.
    """
    names = {op.inputs[0].name for op in operators(exact) if op.name in _WITH_WEIGHTS}
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}

    def measure(seen: Activation) -> tuple[str, np.ndarray]:
        channels = seen.values.reshape(-1, seen.values.shape[-1])
        return seen.name, channels.mean(axis=0, dtype=np.float64)

    for name, means in measured(exact, inputs, measure, names):
        sums[name] = sums.get(name, 0) + means
        counts[name] = counts.get(name, 0) + 1
    return {name: total / counts[name] for name, total in sums.items()}


def _shift(error: np.ndarray, means: np.ndarray, op: str) -> np.ndarray:
    """The shift of each output channel's mean that an error of the weights causes, float64.

    Weights are (out, h, w, in), for depthwise layers (1, h, w, out), for dense layers (out, in). Borders are
    treated like the inside.
    """
    if op == "DEPTHWISE_CONV_2D":
        taps = error.sum(axis=(0, 1, 2), dtype=np.float64)
        return taps * np.repeat(means, len(taps) // len(means))
    taps = error.reshape(len(error), -1, error.shape[-1]).sum(axis=1, dtype=np.float64)
    groups = len(means) // taps.shape[1]
    return np.concatenate(
        [part @ mean for part, mean in zip(np.split(taps, groups), np.split(means, groups), strict=True)]
    )


def widened_for_biases(flatbuffer: bytes, ranges: Ranges, bits: int = 8) -> Ranges:
    """Widens the ranges of kernels whose weights are so small that the int32 bias would overflow.

    Args:
        flatbuffer: the float .tflite.
        ranges: by tensor name, of activations, and of kernels whose range is not their weights'.
        bits: of the activations.
    """
    concerned = [op for op in operators(flatbuffer) if _has_constants(op) and op.inputs[0].name in ranges]
    wanted = {tensor.index for op in concerned for tensor in op.inputs[1:3]}
    constants = {index: one.values for index, one in real_constants(flatbuffer, wanted).items()}
    found = dict(ranges)
    for op in concerned:
        kernel, bias = op.inputs[1], constants[op.inputs[2].index]
        ends = _ends(op, found.get(kernel.name), constants[kernel.index])
        smallest = _smallest_end(bias, scale_of(ranges[op.inputs[0].name], bits)).reshape(_spread(op))
        if (ends < smallest).any():
            wide = np.maximum(ends, smallest).astype(np.float32)
            found[kernel.name] = {"min": -wide, "max": wide}
    return found


def _has_constants(op: Operator) -> bool:
    constants = op.inputs[1:3]
    is_float = all(tensor.is_constant and tensor.dtype == "float32" for tensor in constants)
    return op.name in _WITH_WEIGHTS and len(constants) == 2 and is_float


def _ends(op: Operator, known: Mapping[str, np.ndarray] | None, kernel: np.ndarray) -> np.ndarray:
    """The largest magnitude in each filter's range."""
    if known is not None:
        return np.maximum(-known["min"], known["max"])
    axis = _filter_axis(op) % kernel.ndim
    others = tuple(one for one in range(kernel.ndim) if one != axis)
    return np.abs(kernel).max(axis=others, keepdims=True)


def _smallest_end(bias: np.ndarray, scale: float) -> np.ndarray:
    """The smallest such magnitude without overflow of the filter's bias."""
    largest = _LARGEST_BIAS / _LARGEST_CODE * scale
    return np.abs(bias) / largest if largest > 0 else np.zeros_like(bias)


def _spread(op: Operator) -> list[int]:
    """The shape that broadcasts one value per filter to the kernel."""
    shape = [1] * len(op.inputs[1].shape)
    shape[_filter_axis(op)] = -1
    return shape


def _filter_axis(op: Operator) -> int:
    return -1 if op.name == _DEPTHWISE else 0


_SUMS = ("ADD", "SUB")
# The smallest scale of an addend over its sum's: slightly above XNNPACK's 1/1024, as scales are rounded.
_SMALLEST_ADDEND = 1.01 / 1024
_CODES = 255


def widened_for_addends(flatbuffer: bytes, ranges: Ranges) -> Ranges:
    """Widens the ranges of addends far below their sum, just enough for XNNPACK.

    An addend keeps its range if others than sums read it, if it is an output, or if its operator only passes
    values on.

    Args:
        flatbuffer: the float .tflite.
        ranges: of its activations, by tensor name.
    """
    found = dict(ranges)
    given = {edge.tensor for edge in interface(flatbuffer).outputs}
    for op, addend in _addends(operators(flatbuffer), ranges, given):
        smallest = _SMALLEST_ADDEND * scale_of(found[op.outputs[0].name])
        scale = scale_of(found[addend.name])
        if scale < smallest:
            found[addend.name] = _widened(found[addend.name], scale, smallest)
    return found


def _addends(
    graph: Sequence[Operator], ranges: Ranges, given: set[int]
) -> Iterator[tuple[Operator, TensorInfo]]:
    """Yields every sum with each addend that only sums read; a sum comes after those that use its output.

    `given` are the model's outputs, which the caller reads.
    """
    others = {tensor.index for op in graph if op.name not in _SUMS for tensor in op.inputs}
    handed = {tensor.index for op in graph if op.name in SAME_RANGE for tensor in op.outputs}
    made = {tensor.index for op in graph for tensor in op.outputs} - others - handed - given
    for op in reversed(graph):
        if op.name in _SUMS and op.outputs[0].name in ranges:
            yield from ((op, one) for one in op.inputs if one.index in made and one.name in ranges)


def _widened(limits: dict[str, np.ndarray], scale: float, smallest: float) -> dict[str, np.ndarray]:
    if scale <= 0:
        return as_range(0.0, smallest * _CODES)
    return {name: (value * (smallest / scale)).astype(np.float32) for name, value in limits.items()}
