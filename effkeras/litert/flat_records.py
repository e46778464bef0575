"""Flatbuffer records by a schema that is data: a reader that checks every offset, and a writer.

The flatbuffers package trusts its input: with a damaged file it may walk through gigabytes of garbage.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.support.errors import EffkerasError
from effkeras.support.tables import read_toml

if TYPE_CHECKING:
    import flatbuffers


# The struct format of each scalar; flatbuffers are always little-endian.
SCALARS = {
    "bool": "<?",
    "byte": "<b",
    "ubyte": "<B",
    "short": "<h",
    "ushort": "<H",
    "int": "<i",
    "uint": "<I",
    "long": "<q",
    "ulong": "<Q",
    "float": "<f",
    "double": "<d",
}
STRING = "string"
UNUSED = "_"  # the name of a slot that is no longer used


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a table: `kind` is a scalar, "string", or the name of a table or union.

    `slot` is its position in the table's vtable. The slot before a union's holds its member's number.
    """

    name: str
    kind: str
    slot: int
    is_vector: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables by name with their fields, unions with their members, the identifier and the root table."""

    identifier: bytes
    root: str
    tables: Mapping[str, tuple[Field, ...]]
    unions: Mapping[str, tuple[str, ...]]


def read_schema(path: Path) -> Schema:
    """Reads a schema from TOML: `tables.NAME` lists fields as "name: type", vectors as "name: [type]"."""
    table = read_toml(path)
    return Schema(
        table["identifier"].encode(),
        table["root"],
        {name: _fields(lines) for name, lines in table["tables"].items()},
        {name: tuple(members) for name, members in table.get("unions", {}).items()},
    )


def _fields(lines: Any) -> tuple[Field, ...]:
    fields = (_field(line, slot) for slot, line in enumerate(lines))
    return tuple(field for field in fields if field.name != UNUSED)


def _field(line: str, slot: int) -> Field:
    name, _, kind = line.partition(": ")
    return Field(name, kind.strip("[]"), slot, kind.startswith("["))


Record = dict[str, Any]

# A valid file holds each table once; only shared parts, such as strings, are visited again.
_VISITS_PER_BYTE = 4
_SPARE_VISITS = 1 << 16
_MOST_TABLES = 1_000_000  # as in flatbuffers' own C++ verifier
_OFFSET = 4


class DamagedError(EffkerasError):
    """The bytes are not a flatbuffer of the expected schema."""


def read_record(data: bytes, schema: Schema) -> Record:
    """The root table as a record: the fields that are present, by name.

    Strings become text, vectors of numbers become NumPy views on `data`, tables become records. A union
    becomes a pair of its member's name and record, without its type field. Newer members are skipped.

    Raises:
        DamagedError: the identifier differs, or a table, vector or string lies outside `data`.
    """
    if len(data) < 2 * _OFFSET or bytes(data[_OFFSET : 2 * _OFFSET]) != schema.identifier:
        raise DamagedError(f"it lacks the identifier {schema.identifier.decode()}")
    reader = _Reader(data, schema)
    return reader.table(schema.root, reader.target(0))


class _Reader:
    """A walk through one flatbuffer with a limit on the bytes and tables that it visits."""

    def __init__(self, data: bytes, schema: Schema) -> None:
        self._data = memoryview(data)
        self._size = len(data)
        self._schema = schema
        self._bytes_left = _VISITS_PER_BYTE * self._size + _SPARE_VISITS
        self._tables_left = _MOST_TABLES

    def table(self, name: str, position: int) -> Record:
        slots = self._slots(position)
        record: Record = {}
        for field in self._schema.tables[name]:
            offset = slots.get(field.slot)
            if offset is not None:
                self._put(record, field, position + offset, slots.get(field.slot - 1, -position) + position)
        return record

    def target(self, position: int) -> int:
        """The target of the offset at `position`: always further on, so offsets cannot form a cycle."""
        step = self._number("<I", position)
        if step < _OFFSET:
            raise DamagedError(f"the offset at byte {position} leads to itself")
        return position + step

    def _put(self, record: Record, field: Field, position: int, before: int) -> None:
        if field.kind in self._schema.unions:
            member = self._member(field.kind, before, position)
            if member is not None:
                record[field.name] = member
        elif field.is_vector:
            record[field.name] = self._vector(field.kind, self.target(position))
        else:
            record[field.name] = self._value(field.kind, position)

    def _value(self, kind: str, position: int) -> Any:
        if kind in SCALARS:
            return self._number(SCALARS[kind], position)
        if kind == STRING:
            return self._text(self.target(position))
        return self.table(kind, self.target(position))

    def _member(self, union: str, before: int, position: int) -> tuple[str, Record] | None:
        members = self._schema.unions[union]
        chosen = self._number("<B", before) if before else 0
        target = self.target(position)
        if not 0 < chosen <= len(members):
            self._slots(target)
            return None
        return members[chosen - 1], self.table(members[chosen - 1], target)

    def _vector(self, kind: str, position: int) -> Any:
        count, start = self._number("<I", position), position + _OFFSET
        if kind in SCALARS:
            dtype = np.dtype(SCALARS[kind])
            self._within(start, count * dtype.itemsize)
            self._visit(count * dtype.itemsize)
            return np.frombuffer(self._data, dtype, count, start)
        self._within(start, count * _OFFSET)
        self._visit(count * _OFFSET)
        return [self._value(kind, start + _OFFSET * index) for index in range(count)]

    def _text(self, position: int) -> str:
        count, start = self._number("<I", position), position + _OFFSET
        self._within(start, count + 1)
        self._visit(count + 1)
        try:
            return str(self._data[start : start + count], "utf-8")
        except UnicodeDecodeError as error:
            raise DamagedError(f"the text at byte {start} is not UTF-8") from error

    def _slots(self, position: int) -> dict[int, int]:
        """The vtable of a table: the offset of each used slot."""
        directory = position - self._number("<i", position)
        self._within(directory, _OFFSET)
        length, size = struct.unpack_from("<HH", self._data, directory)
        if length < _OFFSET or length % 2 or size < _OFFSET:
            raise DamagedError(f"the table at byte {position} has no sound directory")
        self._within(directory, length)
        self._within(position, size)
        self._visit(size, tables=1)
        offsets = struct.unpack_from(f"<{length // 2 - 2}H", self._data, directory + _OFFSET)
        used = {slot: offset for slot, offset in enumerate(offsets) if offset}
        if used and not _OFFSET <= min(used.values()) <= max(used.values()) < size:
            raise DamagedError(f"the table at byte {position} has fields outside itself")
        return used

    def _number(self, code: str, position: int) -> Any:
        self._within(position, struct.calcsize(code))
        return struct.unpack_from(code, self._data, position)[0]

    def _within(self, start: int, length: int) -> None:
        if start < 0 or start + length > self._size:
            raise DamagedError(f"{length} bytes at byte {start} lie outside its {self._size}")

    def _visit(self, size: int, tables: int = 0) -> None:
        self._bytes_left -= size
        self._tables_left -= tables
        if self._bytes_left < 0 or self._tables_left < 0:
            raise DamagedError("its tables refer to each other more often than any model's do")


_VECTOR_ALIGNMENT = 16  # schemas demand it for embedded bytes; it suits all vectors


def write_record(record: dict[str, Any], schema: Schema) -> bytes:
    """Serializes a record, as `read_record` returns it, with the schema's identifier.

    Empty strings and vectors are left out, like absent ones.
    """
    import flatbuffers

    builder = flatbuffers.Builder()
    root = _Writer(builder, schema).table(schema.root, record)
    builder.Finish(root, schema.identifier)
    return bytes(builder.Output())


class _Writer:
    """Writes tables into a builder, children first, as flatbuffers requires."""

    def __init__(self, builder: flatbuffers.Builder, schema: Schema) -> None:
        self._builder = builder
        self._schema = schema

    def table(self, name: str, record: dict[str, Any]) -> int:
        fields = self._schema.tables[name]
        unknown = set(record) - {field.name for field in fields}
        assert not unknown, f"{name} has no {unknown}"
        ready = [(field, self._ready(field, record[field.name])) for field in fields if field.name in record]
        self._builder.StartObject(max((field.slot for field in fields), default=-1) + 1)
        for field, value in ready:
            if value is not None:
                self._put(field, value)
        return self._builder.EndObject()

    def _ready(self, field: Field, value: Any) -> Any:
        """A scalar unchanged; any other value is written and its offset returned."""
        if field.kind in self._schema.unions:
            member, record = value
            return self._schema.unions[field.kind].index(member) + 1, self.table(member, record)
        if field.is_vector:
            return self._vector(field.kind, value) if len(value) else None
        if field.kind in SCALARS:
            return value
        return self._child(field.kind, value) if value != "" else None

    def _child(self, kind: str, value: Any) -> int:
        return self._builder.CreateString(value) if kind == STRING else self.table(kind, value)

    def _vector(self, kind: str, values: Any) -> int:
        if kind in SCALARS:
            return self._numbers(np.asarray(values, np.dtype(SCALARS[kind])))
        children = [self._child(kind, value) for value in values]
        self._builder.StartVector(4, len(children), 4)
        for child in reversed(children):
            self._builder.PrependUOffsetTRelative(child)
        return self._builder.EndVector()

    def _numbers(self, values: np.ndarray) -> int:
        builder = self._builder
        builder.StartVector(values.itemsize, len(values), _VECTOR_ALIGNMENT)
        builder.head = builder.head - values.nbytes
        builder.Bytes[builder.head : builder.head + values.nbytes] = values.tobytes()
        return builder.EndVector()

    def _put(self, field: Field, value: Any) -> None:
        builder = self._builder
        if field.kind in self._schema.unions:
            number, child = value
            builder.PrependUint8Slot(field.slot - 1, number, 0)
            builder.PrependUOffsetTRelativeSlot(field.slot, child, 0)
        elif field.kind in SCALARS and not field.is_vector:
            code = SCALARS[field.kind]
            builder.Prep(struct.calcsize(code), 0)
            builder.head = builder.head - struct.calcsize(code)
            struct.pack_into(code, builder.Bytes, builder.head, value)
            builder.Slot(field.slot)
        else:
            builder.PrependUOffsetTRelativeSlot(field.slot, value, 0)
