"""The op tables: the operators that a device supports, their rules, and the sources of these."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.tables import read_toml, to_record
from export.preflight.rules import RULES

TARGETS = ("edgetpu", "gpu")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition of a table.

    `name` is that of a function in `rules.py`, `limits` its arguments, `source` a key of the table's sources,
    and `helps` the advice when the rule is broken. An operator that breaks a rule with `doubt` may still map.
    """

    name: str
    source: str
    limits: Mapping[str, Any]
    doubt: bool = False
    helps: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The document that a rule comes from."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Device:
    """The device that a table describes.

    `partition` says which of several partitions the device runs: the "first" or the "largest". `weights` is
    the on-chip memory for weights in bytes, 0 where this does not apply. `advice` tells what to do about
    operators that are not in the table. `compiled` is the custom operator of files that the device's compiler
    made; "" where it makes none.
    """

    name: str
    judged_by: str
    partition: str
    advice: str
    weights: int = 0
    compiled: str = ""


@dataclass(frozen=True, slots=True)
class OpTable:
    """A device's table: the rules for all operators, and those for each supported operator."""

    device: Device
    sources: Mapping[str, Source]
    everywhere: tuple[Rule, ...]
    operators: Mapping[str, tuple[Rule, ...]]


@functools.cache
def table_of(target: str) -> OpTable:
    """The table of a target. Raises EffkerasError for a target without a table."""
    if target not in TARGETS:
        raise EffkerasError(f"there is no pre-flight for {target!r}; {did_you_mean(target, TARGETS)}")
    return read_table(_FOLDER / f"{target}.toml")


def read_table(path: Path) -> OpTable:
    """Reads a table from its file. Raises EffkerasError for unknown rules and sources."""
    plain = read_toml(path)
    where = path.name
    sources = {key: to_record(Source, one, f"{where}: {key}") for key, one in plain["sources"].items()}

    def rule(one: Mapping[str, Any], op: str) -> Rule:
        known = ("rule", "source", "doubt", "helps")
        limits = {key: value for key, value in one.items() if key not in known}
        if one["rule"] not in RULES or one["source"] not in sources:
            raise EffkerasError(f"{where}: {op}: there is no rule or source as in {dict(one)}")
        return Rule(one["rule"], one["source"], limits, one.get("doubt", False), one.get("helps", ""))

    def versioned(entry: Mapping[str, Any], op: str) -> Iterator[Rule]:
        yield from (rule(one, op) for one in entry.get("rules", ()))
        if "version" in entry:
            yield rule({**plain["version"], "most": entry["version"]}, op)

    operators = {name: tuple(versioned(entry, name)) for name, entry in plain["operators"].items()}
    return OpTable(
        device=to_record(Device, plain["device"], f"{where}: device"),
        sources=sources,
        everywhere=tuple(rule(one, "everywhere") for one in plain["everywhere"]),
        operators=operators,
    )
