"""A .tflite as a tree of objects that LiteRT's generated code of the schema defines."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.litert.packing import prepare
from effkeras.litert.verify import verified

# A code above it does not fit the schema's older field.
_OLD_CODES = 127


def parse(model: bytes) -> Any:
    """The file as a tree of the schema's objects, lists that it leaves out as empty ones.

    Raises EffkerasError for a file that does not hold together.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    verified(model)
    try:
        parsed = flatbuffer_utils.read_model_from_bytearray(model)
        for buffer in parsed.buffers:  # weights may lie behind the flatbuffer, as plain bytes
            if buffer.data is not None and not isinstance(buffer.data, np.ndarray):
                buffer.data = np.frombuffer(buffer.data, np.uint8)
        _fill_in(parsed)
        return parsed
    except Exception as error:
        raise EffkerasError(
            f"the .tflite is cut short or damaged ({type(error).__name__}); export the model again"
        ) from error


def pack(parsed: Any) -> bytes:
    """The file of such a tree, which cannot be packed again: its buffers are wrapped."""
    from ai_edge_litert.tools import flatbuffer_utils

    prepare(parsed)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def load_schema() -> Any:
    """LiteRT's generated code of the schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def code_name(code: Any) -> str:
    """An operator's name as the schema spells it, such as CONV_2D; a custom operator's own name."""
    if code.customCode:
        return text_of(code.customCode)
    value = max(code.builtinCode, code.deprecatedBuiltinCode)
    return enum_name(load_schema().BuiltinOperator, value)


def code_index(parsed: Any, builtin: int, version: int = 1) -> int:
    """The place of a built-in operator among the codes of a tree; it is added if it is not there.

    `version` is the oldest that will do.
    """
    for index, code in enumerate(parsed.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.version >= version:
            return index
    old = min(builtin, _OLD_CODES)
    code = load_schema().OperatorCodeT(deprecatedBuiltinCode=old, builtinCode=builtin, version=version)
    parsed.operatorCodes.append(code)
    return len(parsed.operatorCodes) - 1


def add_constant(parsed: Any, values: np.ndarray, name: str) -> int:
    """A new constant of the main graph of a tree; its tensor's place."""
    schema = load_schema()
    parsed.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
    tensors = parsed.subgraphs[0].tensors
    kind = getattr(schema.TensorType, str(values.dtype).upper())
    last = len(parsed.buffers) - 1
    tensors.append(schema.TensorT(shape=list(values.shape), type=kind, buffer=last, name=name))
    return len(tensors) - 1


def readers_of(graph: Any) -> dict[int, list[Any]]:
    """The operators that read a tensor, each once, by its index; None stands for the caller."""
    readers: dict[int, list[Any]] = defaultdict(list)
    for op in graph.operators:
        for index in {int(one) for one in op.inputs}:
            readers[index].append(op)
    for index in graph.outputs:
        readers[int(index)].append(None)
    return readers


def dtype_name(value: int) -> str:
    """A tensor type as the schema spells it, in lower case ("float32", "int8")."""
    return enum_name(load_schema().TensorType, value).lower()


def enum_name(enum: type, value: int) -> str:
    """The name of a number of one of the schema's enumerations."""
    return next((name for name, number in vars(enum).items() if number == value), f"UNKNOWN_{value}")


def text_of(value: bytes | str | None) -> str:
    """A string of a tree, which may be bytes."""
    return value.decode() if isinstance(value, bytes) else value or ""


def _fill_in(parsed: Any) -> None:
    """Makes lists that the file leaves out empty ones."""
    for graph in parsed.subgraphs:
        for name in ("tensors", "operators", "inputs", "outputs"):
            setattr(graph, name, getattr(graph, name) or [])
    operators_in = (op for graph in parsed.subgraphs for op in graph.operators)
    for owner in (*operators_in, *(parsed.signatureDefs or ())):
        owner.inputs, owner.outputs = owner.inputs or [], owner.outputs or []
