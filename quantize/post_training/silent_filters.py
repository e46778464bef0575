"""Filters whose weights are so small that 32 bits of their steps do not reach their bias.

A bias counts in steps of the input's scale times the filter's own, and a pruned filter of zeros has no scale:
any bias is beyond the largest code, and comes out wrong even in its sign.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effkeras.litert.flatbuffer import Operator, operators, real_constants
from quantize.post_training.ranges import Ranges, scale_of

_DEPTHWISE = "DEPTHWISE_CONV_2D"
_WITH_WEIGHTS = ("CONV_2D", _DEPTHWISE, "FULLY_CONNECTED")
_LARGEST_CODE = 127
# The largest code of a bias; sums of a filter's products need the rest of 32 bits.
_LARGEST_BIAS = 2**30


def with_biases_in_reach(flatbuffer: bytes, ranges: Ranges, bits: int = 8) -> Ranges:
    """The ranges, and those of kernels with such filters: wide enough there for the biases.

    Args:
        flatbuffer: the float .tflite.
        ranges: of its activations, by tensor, and of kernels whose range is not that of their weights.
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
    """The largest magnitude that each filter's codes stand for."""
    if known is not None:
        return np.maximum(-known["min"], known["max"])
    axis = _filter_axis(op) % kernel.ndim
    others = tuple(one for one in range(kernel.ndim) if one != axis)
    return np.abs(kernel).max(axis=others, keepdims=True)


def _least(bias: np.ndarray, scale: float) -> np.ndarray:
    """The smallest such magnitude whose steps reach the bias."""
    reach = _LARGEST_BIAS / _LARGEST_CODE * scale
    return np.abs(bias) / reach if reach > 0 else np.zeros_like(bias)


def _spread(op: Operator) -> list[int]:
    """The shape in which a value for each filter stands beside the kernel."""
    shape = [1] * len(op.inputs[1].shape)
    shape[_filter_axis(op)] = -1
    return shape


def _filter_axis(op: Operator) -> int:
    return -1 if op.name == _DEPTHWISE else 0
