"""What operators cost, counted on the .tflite itself."""

from __future__ import annotations

import math
from collections.abc import Iterable

from effkeras.litert.flatbuffer import Operator


def multiply_adds(op: Operator) -> int:
    """Multiply-adds of an operator with weights, for one run; 0 for all others."""
    outputs = math.prod(op.outputs[0].shape)
    if op.name == "CONV_2D":
        return outputs * math.prod(op.inputs[1].shape[1:])
    if op.name == "DEPTHWISE_CONV_2D":
        return outputs * math.prod(op.inputs[1].shape[1:3])
    if op.name == "FULLY_CONNECTED":
        return outputs * op.inputs[1].shape[1]
    if op.name == "TRANSPOSE_CONV":  # inputs: output shape, weights (out, h, w, in), activations
        return math.prod(op.inputs[2].shape) * math.prod(op.inputs[1].shape[:3])
    return 0


def integer_share(graph: Iterable[Operator]) -> float:
    """The share of a graph's multiply-adds that int8 activations take part in, 0..1."""
    costs = [(op, multiply_adds(op)) for op in graph]
    total = sum(cost for _, cost in costs)
    return sum(cost for op, cost in costs if op.outputs[0].dtype == "int8") / max(total, 1)
