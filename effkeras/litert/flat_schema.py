"""A flatbuffer schema as data: which tables there are, and the type of each of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.tables import read_toml

# struct's format of each scalar, little-endian; flatbuffers know no other order.
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

    `slot` is its place in the table's directory. The slot before a union's says which member it holds.
    """

    name: str
    kind: str
    slot: int
    is_vector: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables by name with their fields, unions with their members, and what a file starts with."""

    identifier: bytes
    root: str
    tables: Mapping[str, tuple[Field, ...]]
    unions: Mapping[str, tuple[str, ...]]


def read_schema(path: Path) -> Schema:
    """A schema in a TOML file: `tables.NAME` lists fields as "name: type", vectors as "name: [type]"."""
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
