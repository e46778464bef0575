"""A .tflite as a tree of schema objects: parsed, changed and packed again.

Files are verified before they are parsed. Packing aligns the buffers as the schema demands and stores equal
quantization parameters once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from effkeras.litert.verify import verified
from effkeras.support.errors import EffkerasError

# The schema wants weights aligned to 16 bytes; the generated Python code does not do so.
_ALIGNMENT = 16


@dataclass(frozen=True, eq=False, slots=True)
class AlignedBuffer:
    """A buffer that is packed with the schema's alignment."""

    buffer: Any

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that the generated code calls
        """Writes it and returns its offset."""
        from ai_edge_litert import schema_py_generated as schema

        data = self.buffer.data
        vector = None if data is None else _aligned_vector(builder, data.tobytes())
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


@dataclass(frozen=True, eq=False, slots=True)
class Vectors:
    """Vectors of numbers already written, by type and content."""

    places: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def place(self, builder: Any, values: Any, dtype: str) -> int | None:
        """The offset of these values; writes them if they are new."""
        if values is None:
            return None
        array = np.asarray(values, dtype)
        key = dtype, array.tobytes()
        if key not in self.places:
            self.places[key] = builder.CreateNumpyVector(array)
        return self.places[key]


@dataclass(frozen=True, eq=False, slots=True)
class SharedQuantization:
    """Quantization parameters whose vectors are shared with those of other tensors.

    A kernel has an 8-byte zero point per channel, all of them 0: a ninth of the detector Lite0.
    """

    parameters: Any
    vectors: Vectors

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that the generated code calls
        """Writes them and returns their offset."""
        from ai_edge_litert import schema_py_generated as schema

        given = self.parameters
        fields = {
            schema.QuantizationParametersAddMin: self.vectors.place(builder, given.min, "float32"),
            schema.QuantizationParametersAddMax: self.vectors.place(builder, given.max, "float32"),
            schema.QuantizationParametersAddScale: self.vectors.place(builder, given.scale, "float32"),
            schema.QuantizationParametersAddZeroPoint: self.vectors.place(builder, given.zeroPoint, "int64"),
        }
        schema.QuantizationParametersStart(builder)
        for add, place in fields.items():
            if place is not None:
                add(builder, place)
        schema.QuantizationParametersAddQuantizedDimension(builder, given.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)


def prepare(parsed: Any) -> None:
    """Prepares a tree of schema objects for packing."""
    parsed.buffers = [AlignedBuffer(buffer) for buffer in parsed.buffers]
    vectors = Vectors()
    for graph in parsed.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None and tensor.quantization.details is None:
                tensor.quantization = SharedQuantization(tensor.quantization, vectors)


def _aligned_vector(builder: Any, data: bytes) -> int:
    builder.StartVector(1, len(data), _ALIGNMENT)
    builder.head = builder.head - len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return builder.EndVector()


# Larger operator codes do not fit into the schema's older field.
_OLD_CODES = 127


def parse(model: bytes) -> Any:
    """Parses the file into a tree of schema objects; absent lists become empty ones.

    Raises EffkerasError for a damaged file.
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
    """Packs a tree into a file. The tree cannot be packed again, because its buffers are wrapped."""
    from ai_edge_litert.tools import flatbuffer_utils

    prepare(parsed)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def load_schema() -> Any:
    """The schema's Python code, generated by LiteRT."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def code_name(code: Any) -> str:
    """An operator's name as the schema spells it, such as CONV_2D; a custom operator's own name."""
    if code.customCode:
        return text_of(code.customCode)
    value = max(code.builtinCode, code.deprecatedBuiltinCode)
    return enum_name(load_schema().BuiltinOperator, value)


def code_index(parsed: Any, builtin: int, version: int = 1) -> int:
    """The index of a built-in operator among the operator codes of a tree; adds it if it is missing.

    `version` is the oldest version that will do.
    """
    for index, code in enumerate(parsed.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.version >= version:
            return index
    old = min(builtin, _OLD_CODES)
    code = load_schema().OperatorCodeT(deprecatedBuiltinCode=old, builtinCode=builtin, version=version)
    parsed.operatorCodes.append(code)
    return len(parsed.operatorCodes) - 1


def add_constant(parsed: Any, values: np.ndarray, name: str) -> int:
    """Adds a constant to the main graph; returns its tensor index."""
    schema = load_schema()
    parsed.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
    tensors = parsed.subgraphs[0].tensors
    kind = getattr(schema.TensorType, str(values.dtype).upper())
    last = len(parsed.buffers) - 1
    tensors.append(schema.TensorT(shape=list(values.shape), type=kind, buffer=last, name=name))
    return len(tensors) - 1


def readers_of(graph: Any) -> dict[int, list[Any]]:
    """The operators that read each tensor, each once, by tensor index; None stands for the caller."""
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
    """The name of a value of a schema enumeration."""
    return next((name for name, number in vars(enum).items() if number == value), f"UNKNOWN_{value}")


def text_of(value: bytes | str | None) -> str:
    """A string of a tree, which may be stored as bytes."""
    return value.decode() if isinstance(value, bytes) else value or ""


def _fill_in(parsed: Any) -> None:
    """Replaces absent lists by empty ones."""
    for graph in parsed.subgraphs:
        for name in ("tensors", "operators", "inputs", "outputs"):
            setattr(graph, name, getattr(graph, name) or [])
    operators_in = (op for graph in parsed.subgraphs for op in graph.operators)
    for owner in (*operators_in, *(parsed.signatureDefs or ())):
        owner.inputs, owner.outputs = owner.inputs or [], owner.outputs or []
