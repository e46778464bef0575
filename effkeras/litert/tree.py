"""A .tflite as a tree of the objects of its schema: parsed, changed and packed again.

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

# The schema wants weights at multiples of 16 bytes; the generated Python code forgets it.
_ALIGNMENT = 16


@dataclass(frozen=True, eq=False, slots=True)
class AlignedBuffer:
    """A buffer as the schema demands it."""

    buffer: Any

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that the generated code calls
        """Writes it and gives its place."""
        from ai_edge_litert import schema_py_generated as schema

        data = self.buffer.data
        vector = None if data is None else _aligned_vector(builder, data.tobytes())
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


@dataclass(frozen=True, eq=False, slots=True)
class Vectors:
    """Vectors of numbers that were written already, by type and content."""

    places: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def place(self, builder: Any, values: Any, dtype: str) -> int | None:
        """Where these values are; they are written unless they are there already."""
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

    A kernel has a zero point of 8 bytes for every channel, all of them 0: a ninth of the detector Lite0.
    """

    parameters: Any
    vectors: Vectors

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that the generated code calls
        """Writes them and gives their place."""
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
    """Makes a tree of the schema's objects ready to be packed."""
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
