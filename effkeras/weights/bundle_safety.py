"""Rejects TensorFlow checkpoints that declare more than they hold.

A checkpoint's index is a sorted table of entries, each with the shape of a tensor and its place in a data
file. TensorFlow allocates that shape before it reads, and ends the process when it cannot. The table's format
is LevelDB's (tensorflow/core/lib/io/table_format.txt), and the entry's
tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError, printable

_FOOTER = 48  # bytes
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_LARGEST_INDEX = 2**28  # bytes; that of the largest published detector has 1 MB
_PLAIN = 0  # a block without compression; TensorFlow writes no other
_LONGEST_NAME = 4096  # bytes
_LONGEST = 200  # characters shown of a name from the file


def check_checkpoint(prefix: str) -> None:
    """Raises EffkerasError if an entry's tensor is larger than its data file, or lies outside it.

    Raises ValueError, LookupError or struct.error for an index that is damaged.
    """
    path = Path(f"{prefix}.index")
    if path.stat().st_size > _LARGEST_INDEX:
        raise EffkerasError(f"{path} is not safe to read: it has more than {_LARGEST_INDEX // 2**20} MiB")
    content = path.read_bytes()
    if content[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("it does not end like an index")
    sizes: dict[int, int] = {}
    shards = 1
    for key, value in _entries(content):
        if not key:
            shards = _header(value)
            continue
        entry = _entry(value)
        if entry.shard_id not in sizes:
            file = Path(f"{prefix}.data-{entry.shard_id:05d}-of-{shards:05d}")
            sizes[entry.shard_id] = file.stat().st_size if file.is_file() else 0
        problem = _problem(entry, sizes[entry.shard_id])
        if problem:
            name = printable(key.decode(errors="replace"), _LONGEST)
            raise EffkerasError(f"{path} is not safe to read: {name} {problem}")


def _header(value: bytes) -> int:
    from tensorflow.core.protobuf import tensor_bundle_pb2

    return int(tensor_bundle_pb2.BundleHeaderProto.FromString(value).num_shards)


def _entry(value: bytes) -> Any:
    from tensorflow.core.protobuf import tensor_bundle_pb2

    return tensor_bundle_pb2.BundleEntryProto.FromString(value)


def _problem(entry: Any, size: int) -> str:
    import tensorflow as tf

    if not 0 <= entry.offset <= entry.offset + entry.size <= size:
        return "lies outside the data file"
    if entry.dtype == tf.string.as_datatype_enum:
        # A text is at least a length of one byte.
        return "" if _elements(entry) <= entry.size else "has more texts than the data file has bytes"
    declared = _elements(entry) * tf.as_dtype(entry.dtype).size
    if entry.slices:  # a partitioned variable, whose parts are entries of their own
        return "" if declared <= size else f"declares {declared:,} bytes, and the data file has {size:,}"
    return "" if declared == entry.size else f"declares {declared:,} bytes and has {entry.size:,}"


def _elements(entry: Any) -> int:
    sides = [dim.size for dim in entry.shape.dim]
    if min(sides, default=0) < 0:
        raise ValueError("a shape has a negative side")
    return math.prod(sides)


def _entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the table."""
    _, position = _handle(content, len(content) - _FOOTER)
    index, _ = _handle(content, position)
    read = 0
    for _, value in _block(content, index):
        block, _ = _handle(value, 0)
        read += block[1]
        if read > len(content):
            raise ValueError("blocks overlap")
        yield from _block(content, block)


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """The offset and size of a block, and the position behind them."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _block(content: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block: each key states how much it shares with the one before."""
    start, size = handle
    data = content[start : start + size]
    if len(data) < size or content[start + size] != _PLAIN:
        raise ValueError("a block is cut short, or compressed")
    (restarts,) = struct.unpack("<I", data[-4:])
    end = size - 4 * (restarts + 1)
    key, position = b"", 0
    while position < end:
        shared, position = _varint(data, position)
        added, position = _varint(data, position)
        length, position = _varint(data, position)
        if position + added + length > end or shared > len(key):
            raise ValueError("an entry is longer than its block")
        if shared + added > _LONGEST_NAME:
            raise ValueError("a name is too long")
        key = key[:shared] + data[position : position + added]
        yield key, data[position + added : position + added + length]
        position += added + length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has more than ten bytes")
