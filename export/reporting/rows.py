"""The rows of a results.jsonl, whose values are checked as they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.support import results
from effkeras.support.errors import EffkerasError


@dataclass(frozen=True, slots=True)
class Row:
    """A row and the file that it stands in; getters raise EffkerasError for what is not as it should be."""

    values: Mapping[str, Any]
    where: str

    @property
    def kind(self) -> str:
        """What the row is about, "" where it does not say."""
        return str(self.values.get("kind", ""))

    def text(self, key: str) -> str:
        """A text that must be there."""
        return str(self._value(key, lambda value: isinstance(value, str), "a text"))

    def number(self, key: str) -> float:
        """A finite number that must be there."""
        return float(self._value(key, is_number, "a number"))

    def number_if_told(self, key: str) -> float | None:
        """A finite number; None where the row has none."""
        return self.number(key) if self.has(key) else None

    def whole(self, key: str) -> int:
        """A whole number that must be there."""
        return int(self._value(key, lambda value: is_number(value) and value == int(value), "a whole number"))

    def whole_if_told(self, key: str) -> int | None:
        """A whole number; None where the row has none."""
        return self.whole(key) if self.has(key) else None

    def numbers(self, key: str) -> dict[str, float]:
        """Finite numbers by name."""

        def fits(value: Any) -> bool:
            return isinstance(value, dict) and all(map(is_number, value.values()))

        return {name: float(value) for name, value in self._value(key, fits, "a table of numbers").items()}

    def table(self, key: str) -> Mapping[str, Any]:
        """A table; an empty one where the row has none."""
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}

    def has(self, key: str) -> bool:
        """Whether the row says anything of it; null says nothing."""
        return self.values.get(key) is not None

    def _value(self, key: str, fits: Callable[[Any], bool], wanted: str) -> Any:
        value = self.values.get(key)
        if fits(value):
            return value
        found = f"{key} = {value!r}, not {wanted}" if key in self.values else f"no {key!r}"
        raise EffkerasError(f"{self.where}: a row of kind {self.kind!r} has {found}; remove that row")


def read_rows(file: Path) -> list[Row]:
    """The rows of a file. Raises EffkerasError when it is missing, empty, or not one JSON table a line."""
    if not file.is_file():
        raise EffkerasError(
            f"{file.parent} has no results yet; `effkeras eval {file.parent} --data DIR` makes some"
        )
    rows = results.read(file)
    if not rows:
        raise EffkerasError(f"{file} is empty; `effkeras eval {file.parent} --data DIR` makes results")
    return [Row(row, str(file)) for row in rows]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
