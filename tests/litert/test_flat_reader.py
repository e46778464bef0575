"""Flatbuffers of any kind: written and read back, and refused when they lead astray."""

from __future__ import annotations

import contextlib
import struct
import time

import flatbuffers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from effkeras.litert.flat_records import DamagedError, Field, Schema, read_record, write_record

SCHEMA = Schema(
    b"TEST",
    "Root",
    {
        "Root": (
            Field("name", "string", 0),
            Field("size", "int", 1),
            Field("share", "double", 2),
            Field("flag", "bool", 3),
            Field("numbers", "float", 4, is_vector=True),
            Field("leaves", "Leaf", 5, is_vector=True),
            Field("either", "Either", 7),
            Field("names", "string", 8, is_vector=True),
        ),
        "Leaf": (Field("number", "long", 0), Field("leaf", "Twig", 1)),
        "Twig": (Field("name", "string", 0),),
    },
    {"Either": ("Leaf", "Twig")},
)

twigs = some.fixed_dictionaries({}, optional={"name": some.text(min_size=1)})
leaves = some.fixed_dictionaries({}, optional={"number": some.integers(-(2**63), 2**63 - 1), "leaf": twigs})
roots = some.fixed_dictionaries(
    {},
    optional={
        "name": some.text(min_size=1),
        "size": some.integers(-(2**31), 2**31 - 1),
        "share": some.floats(allow_nan=False),
        "flag": some.booleans(),
        "numbers": some.lists(some.floats(width=32, allow_nan=False), min_size=1),
        "leaves": some.lists(leaves, min_size=1, max_size=5),
        "either": some.one_of(some.tuples(some.just("Leaf"), leaves), some.tuples(some.just("Twig"), twigs)),
        "names": some.lists(some.text(), min_size=1, max_size=5),
    },
)


def as_lists(record: dict) -> dict:
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in record.items()}


@given(roots)
def test_what_is_written_is_read(record):
    assert as_lists(read_record(write_record(record, SCHEMA), SCHEMA)) == record


def test_the_flatbuffers_package_reads_what_we_write():
    data = write_record({"name": "cat", "size": -7, "numbers": [1.5, 2.5], "leaves": [{"number": 3}]}, SCHEMA)
    assert flatbuffers.util.BufferHasIdentifier(data, 0, b"TEST")
    table = flatbuffers.table.Table(bytearray(data), struct.unpack_from("<I", data)[0])
    types = flatbuffers.number_types
    assert table.String(table.Offset(4) + table.Pos) == b"cat"
    assert table.Get(types.Int32Flags, table.Offset(6) + table.Pos) == -7
    assert table.Offset(8) == 0  # absent
    assert table.GetVectorAsNumpy(types.Float32Flags, table.Offset(12)).tolist() == [1.5, 2.5]
    start = table.Vector(table.Offset(14))
    leaf = flatbuffers.table.Table(table.Bytes, table.Indirect(start))
    assert leaf.Get(types.Int64Flags, leaf.Offset(4) + leaf.Pos) == 3


@given(roots, some.data())
def test_pieces_of_a_file_are_refused(record, data):
    whole = write_record(record, SCHEMA)
    cut = data.draw(some.integers(0, len(whole) - 1))
    with contextlib.suppress(DamagedError):
        assert as_lists(read_record(whole[:cut], SCHEMA)) == record  # nothing but padding is missing


@given(some.binary(max_size=300))
def test_noise_is_refused_or_read(noise):
    with contextlib.suppress(DamagedError):
        read_record(noise[:4] + b"TEST" + noise[4:], SCHEMA)


def crafted(*, count: int, target: int) -> bytes:
    """A root whose vector of `leaves` has `count` entries that all lead to the same place."""
    head = struct.pack("<I4s", 28, b"TEST")
    directory = struct.pack("<8H", 16, 8, 0, 0, 0, 0, 0, 4).ljust(20, b"\0")
    root = struct.pack("<iI", 20, 4)
    entries = b"".join(struct.pack("<I", target + 4 * (count - index)) for index in range(count))
    return head + directory + root + struct.pack("<I", count) + entries


def test_a_vector_longer_than_the_file_is_refused():
    data = crafted(count=1, target=0)[:-8] + struct.pack("<II", 0xFFFFFFFF, 4)
    started = time.monotonic()
    with pytest.raises(DamagedError, match="outside"):
        read_record(data, SCHEMA)
    assert time.monotonic() - started < 10


def test_tables_that_share_without_end_are_refused():
    """Each of many entries leads to a large table: more is read than the file holds."""
    twig = struct.pack("<4H", 8, 0xFFF0, 0, 0) + struct.pack("<i", 8)
    data = crafted(count=2000, target=8) + twig + bytes(0x10000)
    with pytest.raises(DamagedError, match="more often"):
        read_record(data, SCHEMA)


def test_an_offset_to_itself_is_refused():
    with pytest.raises(DamagedError, match="itself"):
        read_record(struct.pack("<I4s", 0, b"TEST") + bytes(40), SCHEMA)


def test_another_identifier_is_refused():
    with pytest.raises(DamagedError, match="TEST"):
        read_record(write_record({}, SCHEMA).replace(b"TEST", b"XXXX"), SCHEMA)


def test_text_must_be_utf8():
    data = write_record({"name": "caat"}, SCHEMA).replace(b"caat", b"c\xff\xfet")
    with pytest.raises(DamagedError, match="UTF-8"):
        read_record(data, SCHEMA)


def test_members_of_a_newer_union_are_skipped():
    older = Schema(b"TEST", "Root", SCHEMA.tables, {"Either": ("Leaf",)})
    data = write_record({"size": 5, "either": ("Twig", {"name": "new"})}, SCHEMA)
    assert read_record(data, older) == {"size": 5}
