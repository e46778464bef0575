"""Writes flatbuffers from records; `flat_records` reads them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.litert.flat_records import SCALARS, STRING, Field, Schema

if TYPE_CHECKING:
    import flatbuffers

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
