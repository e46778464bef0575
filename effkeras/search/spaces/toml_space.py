"""The base class of search spaces in TOML files, and the file with its base definition."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from effkeras.definitions import zoo
from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.search.genomes import Choice, Gene, Genome, all_genomes, chosen, key
from effkeras.search.spaces.choices import Group, Rule, check_keys
from effkeras.support.errors import EffkerasError
from effkeras.support.files import MOST_BYTES
from effkeras.support.tables import Table, read_toml

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
        """The definition in `base`, which is a name or a table."""
        return self.based()

    def based(self, **own: Any) -> ModelSpec:
        """The base with some keys replaced, such as `backbone`."""
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
        """A hash of 16 hex digits of the choices and the base."""
        base = {key: value for key, value in self.base.to_table().items() if key not in _UNTOLD}
        own = {key: value for key, value in self.table.items() if key not in ("base", "summary")}
        text = json.dumps([own, base], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check_keys(self, own: Collection[str]) -> None:
        """Raises EffkerasError for a key that this kind of space lacks, and a summary that is not text."""
        check_keys(self.table, (*_COMMON, *own), str(self.path))
        summary = self.table.get("summary", "")
        if not isinstance(summary, str):
            raise EffkerasError(f"{self.path}: summary must be a text, not {summary!r}")

    def check_widths(self) -> None:
        """Raises EffkerasError for a base that fixes widths, as other candidates have other layers."""
        if self.base.channels:
            raise EffkerasError(
                f"{self.path}: {self.base.name} fixes the widths of its layers in [channels]; "
                "choose a base without that table"
            )

    def scalar(self, key: str, rule: Rule, default: Choice) -> Any:
        """The value of a key that cannot be a list; raises EffkerasError when it violates the rule."""
        value = self.table.get(key, default)
        if not rule.holds(value):
            raise EffkerasError(f"{self.path}: {key} must be {rule.wanted}, not {value!r}")
        return value

    def part(self, *keys: str) -> Table:
        """The entries of the table with these keys."""
        return {key: self.table[key] for key in keys if key in self.table}

    def subtable(self, key: str) -> Table:
        """A table of the file; empty when it is missing."""
        table = self.table.get(key, {})
        if not isinstance(table, dict):
            raise EffkerasError(f"{self.path}: {key} must be a table, [{key}], not {table!r}")
        return table


def read_file(path: Path) -> SpaceFile:
    """Reads a space's file; raises EffkerasError when it is missing or invalid."""
    return SpaceFile(path, read_toml(path))


def _is_definition(path: Path) -> bool:
    return path.is_file() or (path / "model.toml").is_file()


# The longest line of a description, which must fit a table.
_LINE = 100


@dataclass(frozen=True)
class TomlSpace(ABC):
    """A space read from a file; `groups` hold its genes in order."""

    file: SpaceFile
    groups: tuple[Group, ...]

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All genes, in the order of the rules."""
        return tuple(gene for group in self.groups for gene in group.genes)

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.file.name

    @property
    def source(self) -> str:
        """The argument to read it again: the name of a space of effkeras, or the absolute path of a file."""
        path = self.file.path.absolute()
        return self.name if path.parent == Path(__file__).parent else str(path)

    @property
    def summary(self) -> str:
        """One line about the space."""
        return self.file.summary

    @property
    def base(self) -> ModelSpec:
        """The definition that every candidate starts from."""
        return self.file.base

    @property
    def table(self) -> Mapping[str, Any]:
        """The content of the file."""
        return self.file.table

    @cached_property
    def digest(self) -> str:
        """A hash of 16 hex digits of the choices and the base."""
        return self.file.digest

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition of a candidate, named after the space and its canonical genome.

        Raises EffkerasError when the genome describes no network.
        """
        if why := self.problem(genome):
            raise EffkerasError(f"{self.name}: the genome {key(genome)} describes no network: {why}")
        word = key(lowest := self.canonical(genome))
        made = self._made(lowest)
        return made.replace(
            name=_model_name(self.name, word),
            summary=f"Candidate {word} of the space {self.name}",
            published=None,
            weights={},
        )

    def describe(self, genome: Genome) -> list[str]:
        """A candidate in a few short lines."""
        return described(chosen(self, self.canonical(genome)))

    def covering(self) -> Iterator[Genome]:
        """Genomes whose networks have all parts of the space; all genomes, unless a kind finds fewer."""
        return all_genomes(self)

    @abstractmethod
    def canonical(self, genome: Genome) -> Genome:
        """The lowest genome of the same network."""

    @abstractmethod
    def problem(self, genome: Genome) -> str:
        """Why the genome describes no network; "" when it describes one."""

    @abstractmethod
    def copies(self, genome: Genome) -> int:
        """The number of genomes with the network of this valid one."""

    @abstractmethod
    def encode(self, spec: ModelSpec) -> Genome | None:
        """The canonical genome with the network of a definition; None when the space has none."""

    @abstractmethod
    def _made(self, genome: Genome) -> ModelSpec:
        """The definition of a canonical genome, under any name."""

    def _parts(self, genome: Genome) -> list[Genome]:
        """The genome's part of each group."""
        return cut(genome, [len(group.genes) for group in self.groups])


def _model_name(space: str, word: str) -> str:
    """A candidate's name; a genome that is too long for a file name is replaced by its hash."""
    name = f"{space}-{word}"
    if len(name.encode(errors="replace")) <= MOST_BYTES:
        return name
    return f"{space}-{hashlib.sha256(word.encode()).hexdigest()[:16]}"


def cut(genome: Genome, lengths: Iterable[int]) -> list[Genome]:
    """Splits a genome into consecutive parts of these lengths."""
    ends = itertools.accumulate(lengths, initial=0)
    return [genome[start:end] for start, end in itertools.pairwise(ends)]


def described(values: Mapping[str, Choice]) -> list[str]:
    """Formats choices as lines of "name value, name value"."""
    lines = [""]
    for name, value in values.items():
        text = f"{name} {str(value).lower() if isinstance(value, bool) else value}"
        if lines[-1] and len(lines[-1]) + len(text) > _LINE:
            lines.append("")
        lines[-1] += f", {text}" if lines[-1] else text
    return lines if lines[0] else []


def sized(spec: ModelSpec, side: Choice | None) -> InputSpec:
    """The input as a square of `side` pixels; unchanged for None."""
    return spec.input if side is None else dataclasses.replace(spec.input, size=(side, side))  # type: ignore[arg-type]
