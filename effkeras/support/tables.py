"""TOML within limits, and strict conversion between plain tables (TOML, JSON) and frozen dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import reprlib
import tomllib
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from effkeras.support.console import warn
from effkeras.support.errors import EffkerasError, closest, did_you_mean, first_line

Record = TypeVar("Record")
Table = dict[str, Any]

# Limits of a TOML file. tomllib takes time and memory by the square of a key's parts, and recurses for each
# bracket; our own files have 17 kB, four brackets and three parts at most.
LARGEST_TOML = 2**20  # bytes
_DEEPEST = 32  # brackets inside each other, or parts of a dotted key
# Strings, comments and marks. An open string reaches to the end, so that no second attempt starts inside it.
_TOKEN = re.compile(
    r"""
    \"{3} (?: \\. | \\\Z | [^\\] )*? (?: "{3,5} | \Z )
    | '{3} .*? (?: '{3,5} | \Z )
    | " (?: \\. | [^"\\\n] )* "?
    | ' [^'\n]* '?
    | \# [^\n]*
    | [][{}.=,\n]
    """,
    re.DOTALL | re.VERBOSE,
)

# The word that keys of the previous version contain, and its replacement.
_RENAMED = ("picture", "image")


class TableValue(ABC):
    """A value in a record with its own conversion to and from a table."""

    __slots__ = ()

    @classmethod
    @abstractmethod
    def from_table(cls, table: Mapping[str, Any], where: str) -> Self:
        """Reads the value from a table; a wrong table raises EffkerasError, naming `where` and key."""

    @abstractmethod
    def to_table(self) -> Table:
        """The value as a plain table."""


def read_toml(path: Path) -> Table:
    """The table in a TOML file; EffkerasError when it is missing, or as of `parse_toml`."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_TOML + 1)
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}") from error
    return parse_toml(content, str(path))


def parse_toml(content: bytes | str, where: str) -> Table:
    """The table in a TOML text; `where` names its place in errors.

    Raises EffkerasError for a text that is not valid TOML, has more than 1 MiB, brackets or parts of a key
    more than 32 deep, or whole numbers beyond 64 bits.
    """
    if len(content) > LARGEST_TOML:
        raise EffkerasError(
            f"{where} has more than {LARGEST_TOML // 1024} kB, too much for a file of settings"
        )
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        _check_depth(text, where)
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, int's own limit
        if isinstance(error, EffkerasError):
            raise
        raise EffkerasError(f"{where} is not valid TOML: {first_line(error)}") from error
    _check_values(table, where)
    return table


def _check_depth(text: str, where: str) -> None:
    depth = parts = 0
    for token in _TOKEN.finditer(text.replace("\r\n", "\n")):
        mark = token[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth = max(0, depth - 1)
        if mark == ".":
            parts += 1
        elif mark in "[]{}=,\n":
            parts = 0
        if max(depth, parts) > _DEEPEST:
            line = text.count("\n", 0, token.start()) + 1
            raise EffkerasError(f"{where}, line {line}: tables more than {_DEEPEST} deep; flatten them")


def _check_values(value: Any, where: str, depth: int = 0) -> None:
    """Raises EffkerasError for whole numbers beyond 64 bits and for deep tables."""
    if depth > _DEEPEST:
        raise EffkerasError(f"{where} has tables more than {_DEEPEST} deep; flatten them")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_values(item, where, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise EffkerasError(f"{where} has a whole number of {value.bit_length()} bits; TOML has 64")


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Table:
    """`base` with `overrides` on top, nested tables merged key by key."""
    merged = dict(base)
    for key, value in overrides.items():
        both_tables = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both_tables else value
    return merged


def to_record(kind: type[Record], table: Mapping[str, Any], where: str) -> Record:
    """Builds the dataclass `kind` from a table.

    A field's type may be a `TableValue`, or a base class whose `for_table(table, where)` chooses the
    dataclass. Raises EffkerasError, naming `where` and key, for unknown keys, missing keys and wrong types.
    """
    hints = _hints(kind)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    table = current_names(table, where, known=fields)
    for key in table:
        if key not in fields:
            hint = did_you_mean(key, fields)
            raise EffkerasError(f"{where}: unknown key {_shown(key)}; {hint}")
    for key, field in fields.items():
        if key not in table and _is_required(field):
            raise EffkerasError(f"{where}: the key {key!r} is missing")
    return kind(**{key: convert(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def current_names(table: Mapping[str, Any], where: str, known: Container[str] | None = None) -> Table:
    """The table with the key names of this version: `validation_pictures` becomes `validation_images`.

    Names of the previous version are still read, with a one-line note. Where `known` is given, a key is
    renamed only if the new name is in it.
    """
    new = {key: key.replace(*_RENAMED) for key in table if _RENAMED[0] in key}
    new = {old: now for old, now in new.items() if (known is None or now in known) and now not in table}
    if new:
        names = ", ".join(f"{old} is now {name}" for old, name in new.items())
        warn(f"{where}: {names}; the next version will not read the old name")
    return {new.get(key, key): value for key, value in table.items()}


def to_table(record: Any) -> Table:
    """A dataclass as a plain table, without keys that are None or empty."""
    return {
        field.name: plain(value)
        for field in dataclasses.fields(record)
        if (value := getattr(record, field.name)) is not None and value not in ((), {}, "")
    }


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    no_default = field.default is dataclasses.MISSING
    return no_default and field.default_factory is dataclasses.MISSING


def plain(value: Any) -> Any:
    """A value in the types of TOML and JSON: tables, lists and scalars."""
    if isinstance(value, TableValue):
        return value.to_table()
    if dataclasses.is_dataclass(value):
        return to_table(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def convert(kind: Any, value: Any, where: str) -> Any:
    """Converts a table's value to the type `kind`; another type raises EffkerasError, naming `where`."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
        return None if value is None else convert(choices[0], value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _expect(isinstance(value, Mapping), where, "a table", value)
        if issubclass(kind, TableValue):
            return kind.from_table(value, where)
        choose = getattr(kind, "for_table", None)
        return to_record(choose(value, where) if choose else kind, value, where)
    if origin is tuple:
        return _convert_tuple(typing.get_args(kind), value, where)
    if origin in (dict, Mapping) or origin is typing.get_origin(Mapping[str, int]):
        _expect(isinstance(value, Mapping), where, "a table", value)
        item = typing.get_args(kind)[1]
        return {key: convert(item, entry, f"{where}.{key}") for key, entry in value.items()}
    if origin is typing.Literal:
        choices = list(typing.get_args(kind))
        if value not in choices:
            close = closest(value, map(str, choices)) if isinstance(value, str) else None
            hint = f"; did you mean {close!r}?" if close else ""
            names = ", ".join(map(str, choices))
            raise EffkerasError(f"{where} must be one of {names}, not {_shown(value)}{hint}")
        return value
    return _convert_scalar(kind, value, where)


def _convert_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list | tuple), where, "a list", value)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(convert(items[0], entry, where) for entry in value)
    _expect(len(value) == len(items), where, f"a list of {len(items)}", value)
    return tuple(convert(item, entry, where) for item, entry in zip(items, value, strict=True))


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        _expect(isinstance(value, int | float) and not isinstance(value, bool), where, "a number", value)
        _expect(math.isfinite(value), where, "a finite number", value)
        return float(value)
    names = {int: "a whole number", str: "a text", bool: "true or false"}
    is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _expect(is_right, where, names[kind], value)
    return value


def _expect(is_right: bool, where: str, wanted: str, value: Any) -> None:
    if not is_right:
        raise EffkerasError(f"{where} must be {wanted}, not {_shown(value)}")


def _shown(value: Any) -> str:
    """A value of a file for a message, cut where it is long."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 12
