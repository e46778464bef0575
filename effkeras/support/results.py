"""Result rows as JSON lines: one row per measurement, with tool versions and machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder, write_bytes
from effkeras.support.locks import appending_to
from effkeras.support.tables import current_names

_TOOLS = ("tensorflow", "keras", "numpy", "ai-edge-litert", "ai-edge-quantizer", "effkeras")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row and the file that holds it; the getters raise EffkerasError for a value of the wrong kind."""

    values: Mapping[str, Any]
    where: str

    @property
    def kind(self) -> str:
        """What the row measures; "" where the row does not state it."""
        return str(self.values.get("kind", ""))

    def text(self, key: str) -> str:
        """A required text."""
        return str(self._value(key, lambda value: isinstance(value, str), "a text"))

    def number(self, key: str) -> float:
        """A required finite number."""
        return float(self._value(key, is_number, "a number"))

    def number_or_none(self, key: str) -> float | None:
        """A finite number; None where the row lacks it."""
        return self.number(key) if self.has(key) else None

    def whole(self, key: str) -> int:
        """A required whole number."""
        return int(self._value(key, lambda value: is_number(value) and value == int(value), "a whole number"))

    def whole_or_none(self, key: str) -> int | None:
        """A whole number; None where the row lacks it."""
        return self.whole(key) if self.has(key) else None

    def numbers(self, key: str) -> dict[str, float]:
        """Finite numbers by name."""

        def fits(value: Any) -> bool:
            return isinstance(value, dict) and all(map(is_number, value.values()))

        return {name: float(value) for name, value in self._value(key, fits, "a table of numbers").items()}

    def table(self, key: str) -> Mapping[str, Any]:
        """A table; an empty one where the row lacks it."""
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}

    def items(self, key: str) -> Sequence[Any]:
        """A list; an empty one where the row lacks it."""
        value = self.values.get(key)
        return value if isinstance(value, list) else ()

    def has(self, key: str) -> bool:
        """Whether the row has a value other than null."""
        return self.values.get(key) is not None

    def _value(self, key: str, fits: Callable[[Any], bool], wanted: str) -> Any:
        value = self.values.get(key)
        if fits(value):
            return value
        found = f"{key} = {value!r}, not {wanted}" if key in self.values else f"no {key!r}"
        raise EffkerasError(f"{self.where}: a row of kind {self.kind!r} has {found}; remove that row")


def environment() -> Row:
    """The versions of tools that affect a measurement, and the machine."""
    versions = {}
    for tool in _TOOLS:
        try:
            versions[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            versions[tool] = "not installed"
    machine = {"cpu": _cpu_name(), "cores": os.cpu_count(), "system": platform.system()}
    return {"python": platform.python_version(), "versions": versions, "machine": machine}


def stamped(row: Mapping[str, Any]) -> Row:
    """A row with the time (UTC) and the environment added."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**row, "time": now, "environment": environment()}


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows to a file of JSON lines; the file stays whole if writing fails.

    Processes that append to one file wait for each other.
    """
    added = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    make_folder(path.parent)
    try:
        with appending_to(path):
            old = path.read_bytes() if path.is_file() else b""
            write_bytes(path, old + (b"\n" if old and not old.endswith(b"\n") else b"") + added)
    except OSError as error:
        raise EffkerasError(f"cannot add to {path}: {error.strerror or error}") from error


def read(path: Path) -> list[Row]:
    """All rows of a file of JSON lines, each a table; [] when there is no file.

    Raises EffkerasError with the number of a broken line.
    """
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(f"cannot read {path}: {error}; it should hold one JSON table a line") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # too many digits are no decode error
            raise EffkerasError(f"{path}, line {number} is not JSON; remove the line ({error})") from error
        if not isinstance(row, dict):
            raise EffkerasError(f"{path}, line {number} is not a table; remove the line")
        rows.append(row)
    return _with_current_names(rows, path)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and -sys.float_info.max <= value <= sys.float_info.max


def _with_current_names(rows: list[Row], path: Path) -> list[Row]:
    """Rows with the keys of this version; older keys cause one note for the whole file."""
    old = {key: None for row in rows for key in row if "picture" in key}
    new = dict(zip(old, current_names(old, str(path)), strict=True))
    return [{new.get(key, key): value for key, value in row.items()} for row in rows]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
