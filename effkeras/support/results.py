"""Measurements as JSON lines: one row per measured thing, stamped with versions and machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text
from effkeras.support.tables import current_names

_TOOLS = ("tensorflow", "keras", "numpy", "ai-edge-litert", "ai-edge-quantizer", "effkeras")

Row = dict[str, Any]


def environment() -> Row:
    """Versions of the tools that shape a measurement, and the machine it was made on."""
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
    """Adds rows to a file of JSON lines, which stays whole if writing fails."""
    lines = [json.dumps(row) for row in rows]
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_text(path, old + "".join(f"{line}\n" for line in lines))


def read(path: Path) -> list[Row]:
    """All rows of a file of JSON lines, each a table; [] when there is none yet.

    Raises EffkerasError, which names the line that is broken.
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
        except (json.JSONDecodeError, RecursionError) as error:
            raise EffkerasError(f"{path}, line {number} is not JSON; remove the line ({error})") from error
        if not isinstance(row, dict):
            raise EffkerasError(f"{path}, line {number} is not a table; remove the line")
        rows.append(row)
    return _with_current_names(rows, path)


def _with_current_names(rows: list[Row], path: Path) -> list[Row]:
    """Rows with the keys of this version; one note for all rows with older ones."""
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
