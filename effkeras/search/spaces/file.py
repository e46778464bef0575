"""A space's file: its table, and the definition that all candidates start from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from effkeras import zoo
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.search.genomes import Choice
from effkeras.search.spaces.choices import Rule, check_keys
from effkeras.tables import Table, read_toml

# Keys of every kind of space.
_COMMON = ("kind", "summary", "base")
_UNTOLD = ("name", "summary", "published", "weights")


@dataclass(frozen=True)
class SpaceFile:
    """A TOML file that describes a space."""

    path: Path
    table: Table

    @property
    def name(self) -> str:
        """The space's name."""
        return self.path.stem

    @property
    def summary(self) -> str:
        """One line about the space."""
        return str(self.table.get("summary", ""))

    @cached_property
    def base(self) -> ModelSpec:
        """The definition that `base` names or contains."""
        return self.based()

    def based(self, **own: Any) -> ModelSpec:
        """The base with keys of its own, such as another `backbone`."""
        if "base" not in self.table:
            raise EffkerasError(f"{self.path}: the key 'base' is missing; name a model to start from")
        base = self.table["base"]
        if isinstance(base, dict):
            return zoo.spec_from({**base, **own}, self.path)
        if not isinstance(base, str):
            raise EffkerasError(f"{self.path}: base must be a model's name or a table, not {base!r}")
        beside = self.path.parent / base
        name = str(beside) if _is_definition(beside) else base
        if own:
            return zoo.spec_from({"base": name, **own}, self.path)
        try:
            return zoo.spec(name)
        except EffkerasError as error:
            raise EffkerasError(f"{self.path}: base {base!r}: {error}") from error

    @property
    def digest(self) -> str:
        """Sixteen hex digits of what the file means."""
        base = {key: value for key, value in self.base.to_table().items() if key not in _UNTOLD}
        own = {key: value for key, value in self.table.items() if key not in ("base", "summary")}
        text = json.dumps([own, base], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check_keys(self, own: Collection[str]) -> None:
        """Raises EffkerasError for a key that this kind of space lacks, and a summary that is no text."""
        check_keys(self.table, (*_COMMON, *own), str(self.path))
        summary = self.table.get("summary", "")
        if not isinstance(summary, str):
            raise EffkerasError(f"{self.path}: summary must be a text, not {summary!r}")

    def check_widths(self) -> None:
        """Raises EffkerasError for a base that fixes widths: they are other layers' in other networks."""
        if self.base.channels:
            raise EffkerasError(
                f"{self.path}: {self.base.name} fixes the widths of its layers in [channels]; "
                "choose a base without that table"
            )

    def scalar(self, key: str, rule: Rule, default: Choice) -> Any:
        """The value of a key that cannot be a list; EffkerasError when it breaks the rule."""
        value = self.table.get(key, default)
        if not rule.holds(value):
            raise EffkerasError(f"{self.path}: {key} must be {rule.wanted}, not {value!r}")
        return value

    def part(self, *keys: str) -> Table:
        """The table's entries of these keys, where it has them."""
        return {key: self.table[key] for key in keys if key in self.table}

    def subtable(self, key: str) -> Table:
        """A table of the file, empty where it has none."""
        table = self.table.get(key, {})
        if not isinstance(table, dict):
            raise EffkerasError(f"{self.path}: {key} must be a table, [{key}], not {table!r}")
        return table


def read_file(path: Path) -> SpaceFile:
    """Reads a space's file; EffkerasError when it is missing or broken."""
    return SpaceFile(path, read_toml(path))


def _is_definition(path: Path) -> bool:
    return path.is_file() or (path / "model.toml").is_file()
