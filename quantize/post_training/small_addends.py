"""Addends that are next to nothing beside their sum, which XNNPACK leaves to other kernels.

Its int8 sums take inputs whose scale is at least a 1024th of the output's; a smaller one splits the network
into two partitions (`CheckTensorsInputOutputScale` in xnnpack_delegate.cc). Such an addend is at most a
quarter of a step of the sum, whatever its codes are, so that a wider range loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from effkeras.litert.fake_quants import SAME_RANGE
from effkeras.litert.flatbuffer import Operator, TensorInfo, operators
from effkeras.litert.interface import interface
from quantize.post_training.ranges import Ranges, as_range, scale_of

_SUMS = ("ADD", "SUB")
# A little more than XNNPACK asks for, as scales are rounded.
_LEAST = 1.01 / 1024
_CODES = 255


def with_addends_in_reach(flatbuffer: bytes, ranges: Ranges) -> Ranges:
    """The ranges, and those of such addends: just wide enough for XNNPACK.

    One that something else reads too, or that is an output, keeps its range, as does one that is handed on
    from another tensor.

    Args:
        flatbuffer: the float .tflite.
        ranges: of its activations, by tensor.
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
    """Every sum with each of its addends that nothing but sums read; what a sum goes into comes before it.

    Tensors that are `given` to the caller are read.
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
