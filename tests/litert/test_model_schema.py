"""Our schema of .tflite files is that of the code which LiteRT ships."""

from __future__ import annotations

import inspect
import re

import pytest
from ai_edge_litert import schema_py_generated as theirs

from effkeras.litert.flat_records import SCALARS
from effkeras.litert.verify import _schema

SCHEMA = _schema()
TYPES = {
    "Bool": "bool",
    "Int8": "byte",
    "Uint8": "ubyte",
    "Int16": "short",
    "Uint16": "ushort",
    "Int32": "int",
    "Uint32": "uint",
    "Int64": "long",
    "Uint64": "ulong",
    "Float32": "float",
    "Float64": "double",
}
TABLES = [name for name, one in vars(theirs).items() if hasattr(one, "GetRootAs") and not name.endswith("T")]


def accessors(name: str) -> dict[int, str]:
    """The source of the method that reads each slot of a table."""
    found = {}
    for method, body in inspect.getmembers(getattr(theirs, name), inspect.isfunction):
        code = inspect.getsource(body)
        slot = re.search(r"_tab\.Offset\((\d+)\)", code)
        is_length = method.endswith("Length") and "VectorLen" in code
        if slot and not is_length and not method.endswith(("AsNumpy", "IsNone")):
            found[(int(slot[1]) - 4) // 2] = code
    return found


def kind_in(code: str) -> str:
    child = re.search(r"obj = (\w+)\(\)", code)
    number = re.search(r"_tab\.Get\(flatbuffers\.number_types\.(\w+)Flags", code)
    if child and child[1] != "Table":
        return child[1]
    if "_tab.String(" in code:
        return "string"
    return TYPES[number[1]] if number else "union"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_tables_have_the_same_fields(name):
    wanted = {slot: (kind_in(code), "_tab.Vector(o)" in code) for slot, code in accessors(name).items()}
    got = {}
    for field in SCHEMA.tables[name]:
        is_union = field.kind in SCHEMA.unions
        got[field.slot] = ("union" if is_union else field.kind, field.is_vector)
        if is_union:
            got[field.slot - 1] = ("ubyte", False)
    assert got == wanted


@pytest.mark.parametrize("name", SCHEMA.unions)
def test_unions_have_the_same_members(name):
    members = {key: value for key, value in vars(getattr(theirs, name)).items() if key[0] != "_"}
    assert {member: place for place, member in enumerate(SCHEMA.unions[name], 1)} == {
        key: value for key, value in members.items() if value
    }


def test_every_type_is_known():
    kinds = {field.kind for fields in SCHEMA.tables.values() for field in fields}
    assert kinds <= set(SCALARS) | {"string"} | set(SCHEMA.tables) | set(SCHEMA.unions)
