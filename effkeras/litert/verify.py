"""Verifies a .tflite before any code follows its offsets and indices.

Neither the flatbuffers package nor LiteRT checks damaged files sufficiently.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path

from effkeras.litert.flat_records import DamagedError, Record, Schema, read_record, read_schema
from effkeras.support.errors import EffkerasError

SCHEMA = Path(__file__).with_name("model_schema.toml")
IDENTIFIER = b"TFL3"
LARGEST_TENSOR = 1 << 31  # bytes; LiteRT counts elements in 32 bits
_EXTERNAL_SHARE = 4  # limits how often regions outside the flatbuffer may be shared

# Bits of an element by TensorType number; other types (strings, resources) have no fixed size.
_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64}
_BITS |= {15: 32, 16: 16, 17: 4, 18: 16, 19: 2, 20: 4, 21: 8, 22: 8}


def verified(model: bytes) -> Record:
    """The content of a .tflite as a record of the published schema.

    Every offset, length, index and tensor size in it has been checked, so callers need no checks.

    Raises:
        EffkerasError: not a .tflite, cut short, or damaged.
    """
    return _verified(bytes(model))


def stored_bytes(model: bytes, buffer: Record) -> bytes:
    """The content of a buffer in `verified`'s record of a file, which may lie behind the flatbuffer."""
    start = buffer.get("offset", 0)
    return bytes(model[start : start + buffer.get("size", 0)] if start else buffer.get("data", b""))


@functools.lru_cache(maxsize=2)  # one export verifies the same file many times
def _verified(model: bytes) -> Record:
    if model[4:8] != IDENTIFIER:
        raise EffkerasError("not a .tflite file: it lacks the identifier TFL3; export the model again")
    try:
        record = read_record(model, _schema())
        _check_model(record, len(model))
    except DamagedError as error:
        raise EffkerasError(
            f"the .tflite is cut short or damaged ({error}); export the model again"
        ) from error
    return record


@functools.cache
def _schema() -> Schema:
    return read_schema(SCHEMA)


def _check_model(record: Record, size: int) -> None:
    graphs = record.get("subgraphs", [])
    _expect(bool(graphs), "it has no graph")
    buffers = record.get("buffers", [])
    _check_regions(graphs, buffers, size)
    codes = record.get("operator_codes", [])
    for graph in graphs:
        _check_graph(graph, codes, buffers)
    for signature in record.get("signature_defs", []):
        _check_signature(signature, graphs)
    _check_indices((entry.get("buffer", 0) for entry in record.get("metadata", [])), len(buffers), "buffer")


def _check_regions(graphs: list[Record], buffers: list[Record], size: int) -> None:
    """Checks weights and custom operator options that lie behind the flatbuffer."""
    regions = [(one.get("offset", 0), one.get("size", 0)) for one in buffers]
    for graph in graphs:
        for op in graph.get("operators", []):
            start, length = (op.get(f"large_custom_options_{key}", 0) for key in ("offset", "size"))
            regions.append((start, length))
    used = [(start, length) for start, length in regions if start]
    _expect(all(start + length <= size for start, length in used), "weights lie outside of it")
    total = sum(length for _, length in used)
    _expect(total <= _EXTERNAL_SHARE * size, "weights share bytes more often than any model's do")


def _check_graph(graph: Record, codes: list[Record], buffers: list[Record]) -> None:
    tensors = graph.get("tensors", [])
    for tensor in tensors:
        _check_tensor(tensor, buffers)
    for key in ("inputs", "outputs"):
        _check_indices(graph.get(key, ()), len(tensors), "tensor")
    for op in graph.get("operators", []):
        _check_indices([op.get("opcode_index", 0)], len(codes), "operator")
        _check_indices((index for index in op.get("inputs", ()) if index != -1), len(tensors), "tensor")
        _check_indices((index for index in op.get("outputs", ()) if index != -1), len(tensors), "tensor")


def _check_tensor(tensor: Record, buffers: list[Record]) -> None:
    _check_indices([tensor.get("buffer", 0)], len(buffers), "buffer")
    shape = _shape(tensor)
    _expect(all(side >= 0 for side in shape), "a tensor has a negative side")
    needed = _bytes_of(tensor)
    _expect(needed is None or needed <= LARGEST_TENSOR, "a tensor is larger than LiteRT takes")
    stored = _stored(buffers[tensor.get("buffer", 0)])
    if stored and needed is not None and "sparsity" not in tensor:
        _expect(stored == needed, f"a tensor of {needed} bytes has {stored}")
    _check_quantization(tensor.get("quantization", {}), shape)


def _check_quantization(quantization: Record, shape: tuple[int, ...]) -> None:
    scales, zeros = quantization.get("scale", ()), quantization.get("zero_point", ())
    axis = quantization.get("quantized_dimension", 0)
    _expect(len(zeros) in (0, len(scales)), "a tensor has different numbers of zero points and scales")
    if len(scales) > 1:
        _expect(
            0 <= axis < len(shape) and shape[axis] == len(scales),
            "a tensor's number of scales differs from its number of channels",
        )


def _check_signature(signature: Record, graphs: list[Record]) -> None:
    index = signature.get("subgraph_index", 0)
    _check_indices([index], len(graphs), "graph")
    tensors = graphs[index].get("tensors", [])
    for key in ("inputs", "outputs"):
        used = (entry.get("tensor_index", 0) for entry in signature.get(key, []))
        _check_indices(used, len(tensors), "tensor")


def _check_indices(indices: Iterable[int], count: int, what: str) -> None:
    for index in indices:
        _expect(0 <= index < count, f"there is no {what} {index}")


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise DamagedError(problem)


def _shape(tensor: Record) -> tuple[int, ...]:
    return tuple(int(side) for side in tensor.get("shape", ()))


def _bytes_of(tensor: Record) -> int | None:
    bits = _BITS.get(tensor.get("type", 0))
    return None if bits is None else -(-math.prod(_shape(tensor)) * bits // 8)


def _stored(buffer: Record) -> int:
    return buffer.get("size", 0) if buffer.get("offset", 0) else len(buffer.get("data", ()))
