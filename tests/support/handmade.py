"""Small .tflite files made by hand, operator by operator, through the schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
}


@dataclasses.dataclass(eq=False)
class Tensor:
    """A tensor; a constant if it has `data`. `open` puts open sides into its signature."""

    shape: Sequence[int]
    dtype: str = "int8"
    data: Any = None
    scales: Sequence[float] = (0.5,)
    zero_point: int = 0
    open: bool = False

    @classmethod
    def constant(cls, values: Any, dtype: str = "int32", **others: Any) -> Tensor:
        array = np.asarray(values, DTYPES[dtype])
        return cls(array.shape, dtype, array, **others)

    @classmethod
    def weights(cls, *shape: int, dtype: str = "int8", **others: Any) -> Tensor:
        return cls.constant(np.ones(shape), dtype, **others)


@dataclasses.dataclass(eq=False)
class Op:
    """An operator; `options` are those of the schema, given with the name of their type."""

    name: str
    inputs: Sequence[Tensor | None]
    outputs: Sequence[Tensor]
    kind: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    version: int = 1


def flatbuffer(*ops: Op) -> bytes:
    """A model of these operators; what no operator makes is an input, what none reads an output."""
    tensors = list(dict.fromkeys(t for op in ops for t in (*op.inputs, *op.outputs) if t is not None))
    made = {tensor for op in ops for tensor in op.outputs}
    read = {tensor for op in ops for tensor in op.inputs}
    index = {tensor: position for position, tensor in enumerate(tensors)}
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(tensor, position, model.buffers) for position, tensor in enumerate(tensors)]
    graph.inputs = [index[t] for t in tensors if t not in made and t.data is None]
    graph.outputs = [index[t] for t in tensors if t in made and t not in read]
    model.operatorCodes = [_code(op) for op in ops]
    graph.operators = [_operator(op, position, index) for position, op in enumerate(ops)]
    model.subgraphs = [graph]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _tensor(tensor: Tensor, position: int, buffers: list[Any]) -> Any:
    made = schema.TensorT()
    made.name = f"layer{position}/t"
    made.shape = list(tensor.shape)
    if tensor.open:
        made.shapeSignature = [-1, *list(tensor.shape)[1:]]
    made.type = getattr(schema.TensorType, tensor.dtype.upper())
    made.buffer = 0
    if tensor.data is not None:
        made.buffer = len(buffers)
        buffers.append(schema.BufferT(data=np.frombuffer(tensor.data.tobytes(), np.uint8)))
    if tensor.dtype in ("int8", "uint8"):
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = list(tensor.scales)
        made.quantization.zeroPoint = [tensor.zero_point] * len(tensor.scales)
    return made


def _code(op: Op) -> Any:
    code = schema.OperatorCodeT()
    builtin = getattr(schema.BuiltinOperator, op.name, None)
    if builtin is None:
        builtin, code.customCode = schema.BuiltinOperator.CUSTOM, op.name
    code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
    code.version = op.version
    return code


def _operator(op: Op, position: int, index: dict[Tensor, int]) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex = position
    made.inputs = [-1 if tensor is None else index[tensor] for tensor in op.inputs]
    made.outputs = [index[tensor] for tensor in op.outputs]
    if op.kind:
        made.builtinOptionsType = getattr(schema.BuiltinOptions, op.kind)
        made.builtinOptions = getattr(schema, f"{op.kind}T")()
        for name, value in op.options.items():
            setattr(made.builtinOptions, name, value)
    return made
