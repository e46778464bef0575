"""Widens ranges that int8 kernels cannot compute: of dead filters with a bias, of addends below their sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from effkeras.litert.fake_quants import SAME_RANGE
from effkeras.litert.flatbuffer import Operator, TensorInfo, interface, operators, real_constants
from quantize.post_training.ranges import Ranges, as_range, scale_of

_DEPTHWISE = "DEPTHWISE_CONV_2D"
_WITH_WEIGHTS = ("CONV_2D", _DEPTHWISE, "FULLY_CONNECTED")
_LARGEST_CODE = 127
# The largest quantized bias; the sum of a filter's products needs the rest of 32 bits.
_LARGEST_BIAS = 2**30


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
        least = _least(bias, scale_of(ranges[op.inputs[0].name], bits)).reshape(_spread(op))
        if (ends < least).any():
            wide = np.maximum(ends, least).astype(np.float32)
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


def _least(bias: np.ndarray, scale: float) -> np.ndarray:
    """The smallest such magnitude without overflow of the filter's bias."""
    reach = _LARGEST_BIAS / _LARGEST_CODE * scale
    return np.abs(bias) / reach if reach > 0 else np.zeros_like(bias)


def _spread(op: Operator) -> list[int]:
    """The shape that broadcasts one value per filter to the kernel."""
    shape = [1] * len(op.inputs[1].shape)
    shape[_filter_axis(op)] = -1
    return shape


def _filter_axis(op: Operator) -> int:
    return -1 if op.name == _DEPTHWISE else 0


_SUMS = ("ADD", "SUB")
# The smallest scale of an addend over its sum's: slightly above XNNPACK's 1/1024, as scales are rounded.
_LEAST = 1.01 / 1024
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
        least = _LEAST * scale_of(found[op.outputs[0].name])
        scale = scale_of(found[addend.name])
        if scale < least:
            found[addend.name] = _widened(found[addend.name], scale, least)
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


def _widened(limits: dict[str, np.ndarray], scale: float, least: float) -> dict[str, np.ndarray]:
    if scale <= 0:
        return as_range(0.0, least * _CODES)
    return {name: (value * (least / scale)).astype(np.float32) for name, value in limits.items()}
