"""Operators of a .tflite with all that delegates check: versions, options, quantization, constants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import Operator, TensorInfo, tensor_info
from effkeras.litert.tree import code_name, enum_name, load_schema, parse
from effkeras.support.errors import EffkerasError

_BITS = {"int4": 4, "uint4": 4, "int2": 2}
_BYTES = {"bool": 1, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "int64": 8, "float64": 8}


@dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """A tensor as an operator sees it.

    `is_static` is False if a dimension is dynamic. `scales` counts its quantization scales, more than 1 for
    per-channel quantization. `zero_point` is its first zero point. `data` holds the bytes of a constant.
    `is_variable` marks a state that the operator keeps between runs.
    """

    info: TensorInfo
    is_static: bool
    scales: int
    zero_point: int
    data: np.ndarray | None
    is_variable: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions; a dynamic one has the size that the file states, mostly 1."""
        return self.info.shape

    @property
    def size(self) -> int:
        """The size of the values in bytes."""
        count = math.prod(self.shape)
        bits = _BITS.get(self.info.dtype)
        if bits:
            return math.ceil(count * bits / 8)
        return count * _BYTES.get(self.info.dtype, 1 if self.info.dtype.endswith("int8") else 4)

    def integers(self) -> np.ndarray:
        """The values of an integer constant, flat. Raises EffkerasError for any other tensor."""
        if self.data is None or not self.info.dtype.lstrip("u").startswith("int"):
            raise EffkerasError(f"{self.info.name} is no integer constant")
        width = np.dtype(self.info.dtype).itemsize
        return self.data[: len(self.data) // width * width].view(self.info.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """An operator of the main graph.

    `inputs` keep their positions: an omitted optional input is None. `options` use the schema's names in its
    generated Python form ("fusedActivationFunction").
    """

    op: Operator
    version: int
    is_custom: bool
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The operator's name, such as CONV_2D."""
        return self.op.name

    @property
    def given(self) -> tuple[Operand, ...]:
        """The inputs that are present."""
        return tuple(operand for operand in self.inputs if operand is not None)

    @property
    def activations(self) -> tuple[Operand, ...]:
        """The inputs that are not constants."""
        return tuple(operand for operand in self.given if not operand.info.is_constant)

    @property
    def constants(self) -> tuple[Operand, ...]:
        """The inputs that are constants."""
        return tuple(operand for operand in self.given if operand.info.is_constant)

    def fused_activation(self) -> str:
        """The activation fused into the operator, such as RELU6, or NONE."""
        value = self.options.get("fusedActivationFunction", 0)
        return enum_name(load_schema().ActivationFunctionType, value)


def nodes(model: bytes) -> list[Node]:
    """The operators of the main graph, in the order of execution.

    Raises EffkerasError for a corrupt file.
    """
    parsed = parse(model)
    try:
        return _nodes(parsed)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise EffkerasError(
            f"the .tflite is damaged ({type(error).__name__}): its operators and tensors do not fit "
            "together; export the model again"
        ) from error


def _nodes(parsed: Any) -> list[Node]:
    graph = parsed.subgraphs[0]
    operands = [_operand(index, tensor, parsed.buffers) for index, tensor in enumerate(graph.tensors)]
    return [_node(index, op, parsed, operands) for index, op in enumerate(_listed(graph.operators))]


def _node(index: int, op: Any, parsed: Any, operands: Sequence[Operand]) -> Node:
    code = parsed.operatorCodes[_position(op.opcodeIndex, parsed.operatorCodes)]
    inputs = tuple(None if i == -1 else operands[_position(i, operands)] for i in _listed(op.inputs))
    outputs = tuple(operands[_position(i, operands)] for i in _listed(op.outputs))
    given = tuple(operand.info for operand in inputs if operand is not None)
    return Node(
        op=Operator(index, code_name(code), given, tuple(operand.info for operand in outputs)),
        version=int(code.version),
        is_custom=bool(code.customCode),
        inputs=inputs,
        outputs=outputs,
        options={} if op.builtinOptions is None else dict(vars(op.builtinOptions)),
    )


def _operand(index: int, tensor: Any, buffers: Sequence[Any]) -> Operand:
    _position(tensor.buffer, buffers)
    signature = _listed(tensor.shapeSignature)
    scales, zeros = _quantization(tensor)
    info = tensor_info(index, tensor, buffers)
    return Operand(
        info=info,
        is_static=all(side >= 0 for side in (*info.shape, *signature)),
        scales=len(scales),
        zero_point=int(zeros[0]) if len(zeros) else 0,
        data=buffers[tensor.buffer].data,
        is_variable=bool(tensor.isVariable),
    )


def _quantization(tensor: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """Scales and zero points of a tensor."""
    if tensor.quantization is None:
        return (), ()
    return _listed(tensor.quantization.scale), _listed(tensor.quantization.zeroPoint)


def _listed(vector: Any) -> Sequence[Any]:
    return () if vector is None else vector


def _position(index: int, among: Sequence[Any]) -> int:
    """An index checked to lie within `among`: Python would count a negative one from the end."""
    if not 0 <= index < len(among):
        raise IndexError(index)
    return int(index)
