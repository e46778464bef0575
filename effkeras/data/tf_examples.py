"""TFRecord files and `tf.train.Example`, read and written without TensorFlow.

The framing of records: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details; the
messages: tensorflow/core/example/{example,feature}.proto; their encoding:
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import google_crc32c
import numpy as np

from effkeras.support.errors import EffkerasError

# A gzipped file that expands beyond both limits is an attack: images hardly compress.
_LARGEST_UNZIPPED, _EXPANSION = 2**28, 100  # bytes; times the file
LARGEST_RECORD = 2**28  # bytes; an image with its masks has far fewer

Feature = list[bytes] | np.ndarray
Example = dict[str, Feature]

_GZIP = b"\x1f\x8b"
_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, plain or gzipped.

    Raises EffkerasError, with the number of the record, when the file cannot be read, ends early, or a
    checksum is wrong.
    """
    try:
        with path.open("rb") as plain:
            is_zipped = plain.read(2) == _GZIP
            plain.seek(0)
            if not is_zipped:
                yield from _records(plain, path)
                return
            most, size = max(_LARGEST_UNZIPPED, _EXPANSION * path.stat().st_size), 0
            for content in _records(cast(IO[bytes], gzip.GzipFile(fileobj=plain)), path):
                size += len(content)
                if size > most:
                    raise EffkerasError(
                        f"{path} expands to more than {most:,} bytes; it is no file of images"
                    )
                yield content
    except (OSError, EOFError, zlib.error) as error:
        raise EffkerasError(f"cannot read {path}: {error}; write or download it again") from error


def _records(file: IO[bytes], path: Path) -> Iterator[bytes]:
    number = 0
    while header := file.read(_HEADER.size):
        number += 1
        where = f"{path}: record {number}"
        if len(header) < _HEADER.size:
            raise EffkerasError(f"{where} ends early; write or download the file again")
        length, check = _HEADER.unpack(header)
        if _masked_checksum(header[:8]) != check:
            raise EffkerasError(f"{where} has a damaged length; write or download the file again")
        if length > LARGEST_RECORD:
            raise EffkerasError(f"{where} has {length:,} bytes, more than {LARGEST_RECORD:,}; split it")
        content, trailer = file.read(length), file.read(_CHECKSUM.size)
        if len(content) < length or len(trailer) < _CHECKSUM.size:
            raise EffkerasError(f"{where} ends early; write or download the file again")
        if _masked_checksum(content) != _CHECKSUM.unpack(trailer)[0]:
            raise EffkerasError(f"{where} is damaged: its checksum differs; write or download the file again")
        yield content


def framed(content: bytes) -> bytes:
    """A record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(content))
    checks = (_CHECKSUM.pack(_masked_checksum(part)) for part in (length, content))
    return length + next(checks) + content + next(checks)


def _masked_checksum(content: bytes) -> int:
    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(content: bytes) -> Example:
    """The features of a `tf.train.Example` by name: bytes, float32 (n,) or int64 (n,).

    Raises EffkerasError when the message is not valid.
    """
    found: Example = {}
    try:
        for features in _messages(content, 1):
            for entry in _messages(features, 1):
                found[bytes(_last(entry, 1)).decode()] = _feature(_last(entry, 2))
    except (ValueError, IndexError, struct.error) as error:
        raise EffkerasError(f"not a valid tf.train.Example ({error})") from error
    return found


def encode_example(features: Mapping[str, Sequence[bytes] | Sequence[float] | Sequence[int]]) -> bytes:
    """A `tf.train.Example`; each feature is a sequence of bytes, of floats or of ints."""
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _encoded(values)))
        for name, values in sorted(features.items())
    )
    return _field(1, b"".join(entries))


def _feature(content: memoryview) -> Feature:
    for number, value in _fields(content):
        if not isinstance(value, memoryview):
            raise ValueError("a feature is not a list")
        if number == _BYTES_LIST:
            return [bytes(one) for one in _messages(value, 1)]
        if number == _FLOAT_LIST:
            return _floats(value)
        if number == _INT64_LIST:
            return _integers(value)
    return []


def _floats(content: memoryview) -> np.ndarray:
    parts = [value for number, value in _fields(content) if number == 1]
    return np.frombuffer(b"".join(_packed_floats(part) for part in parts), "<f4").astype(np.float32)


def _packed_floats(part: memoryview | int) -> bytes:
    if isinstance(part, int):  # not packed
        return struct.pack("<I", part & 0xFFFFFFFF)
    if len(part) % 4:
        raise ValueError("a list of floats is cut short")
    return bytes(part)


def _integers(content: memoryview) -> np.ndarray:
    values: list[int] = []
    for number, part in _fields(content):
        if number == 1:
            values += [part] if isinstance(part, int) else _varints(part)
    return np.array(values, np.uint64).astype(np.int64)


def _varints(content: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(content):
        value, position = _varint(content, position)
        values.append(value)
    return values


def _messages(content: bytes | memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(content):
        if number == wanted:
            if not isinstance(value, memoryview):
                raise ValueError(f"field {number} is a number")
            yield value


def _last(content: memoryview, wanted: int) -> memoryview:
    """The last value of a field; of several, protobuf uses the last."""
    found = memoryview(b"")
    for value in _messages(content, wanted):
        found = value
    return found


def _fields(content: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: number, and the value of a number or the bytes of anything else."""
    data, position = memoryview(content), 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value: int | memoryview
        if kind == _VARINT:
            value, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            width = 4 if kind == _FIXED32 else 8
            value, position = int.from_bytes(_cut(data, position, width), "little"), position + width
        elif kind == _BYTES:
            length, position = _varint(data, position)
            value, position = _cut(data, position, length), position + length
        else:
            raise ValueError(f"field {key >> 3} has the unknown wire type {kind}")
        yield key >> 3, value


def _cut(data: memoryview, position: int, length: int) -> memoryview:
    if position + length > len(data):
        raise ValueError("a field is longer than its message")
    return data[position : position + length]


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise ValueError("a number has more than ten bytes")


def _encoded(values: Sequence[bytes] | Sequence[float] | Sequence[int]) -> bytes:
    """A feature; without values an empty list of bytes."""
    if all(isinstance(value, bytes) for value in values):
        return _field(_BYTES_LIST, b"".join(_field(1, cast(bytes, value)) for value in values))
    if all(isinstance(value, int | np.integer) for value in values):
        packed = b"".join(_encoded_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values)
        return _field(_INT64_LIST, _field(1, packed))
    return _field(_FLOAT_LIST, _field(1, np.asarray(values, "<f4").tobytes()))


def _field(number: int, content: bytes) -> bytes:
    return _encoded_varint(number << 3 | _BYTES) + _encoded_varint(len(content)) + content


def _encoded_varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def write_records(path: Path, contents: Iterable[bytes]) -> None:
    """Writes a TFRecord file. Raises EffkerasError when it cannot be written."""
    try:
        with path.open("wb") as file:
            for content in contents:
                file.write(framed(content))
    except OSError as error:
        raise EffkerasError(f"cannot write {path}: {error.strerror}") from error
