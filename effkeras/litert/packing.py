"""Parts of a .tflite as they are written: the generated code of the schema packs objects that have `Pack`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
