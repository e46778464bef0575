"""Multiply-adds of operators, counted in the .tflite itself."""

from __future__ import annotations

import math
from collections.abc import Iterable

from effkeras.litert.flatbuffer import Operator
from effkeras.support.errors import EffkerasError

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def multiply_adds(op: Operator) -> int:
    """Multiply-adds of one run of an operator with weights; 0 for all other operators.

    Raises EffkerasError for an operator that lacks its weights: the file is damaged.
    """
    try:
        return _multiply_adds(op)
    except IndexError as error:
        raise EffkerasError(
            f"the .tflite is damaged: operator {op.index}, {op.name}, lacks weights; export the model again"
        ) from error


def _multiply_adds(op: Operator) -> int:
    if op.name not in _WEIGHTED:
        return 0
    outputs = math.prod(op.outputs[0].shape)
    if op.name == "CONV_2D":
        return outputs * math.prod(op.inputs[1].shape[1:])
    if op.name == "DEPTHWISE_CONV_2D":
        return outputs * math.prod(op.inputs[1].shape[1:3])
    if op.name == "FULLY_CONNECTED":
        return outputs * op.inputs[1].shape[1]
    # TRANSPOSE_CONV's inputs: output shape, weights (out, h, w, in), activations
    return math.prod(op.inputs[2].shape) * math.prod(op.inputs[1].shape[:3])


def integer_share(graph: Iterable[Operator]) -> float:
    """The share, 0..1, of a graph's multiply-adds in operators with int8 output."""
    costs = [(op, multiply_adds(op)) for op in graph]
    total = sum(cost for _, cost in costs)
    return sum(cost for op, cost in costs if op.outputs[0].dtype == "int8") / max(total, 1)
