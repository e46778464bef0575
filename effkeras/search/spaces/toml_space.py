"""A space read from a TOML file: its base definition, and what all kinds of spaces share."""

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


# Short enough for one line of a table.
_LINE = 100


@dataclass(frozen=True)
class TomlSpace(ABC):
    """A space read from a file; `groups` hold its genes in order."""

    file: SpaceFile
    groups: tuple[Group, ...]

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All decisions, in the order of the file's rules."""
        return tuple(gene for group in self.groups for gene in group.genes)

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.file.name

    @property
    def source(self) -> str:
        """What it is read again by: the name of a space that ships, the absolute path of any other file."""
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
        """What the file says."""
        return self.file.table

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits of what the file means."""
        return self.file.digest

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition of a candidate, named after the space and its canonical genome.

        Raises EffkerasError when the genome describes no network.
        """
        if why := self.problem(genome):
            raise EffkerasError(f"{self.name}: the genome {key(genome)} describes no network: {why}")
        word = key(least := self.canonical(genome))
        made = self._made(least)
        return made.replace(
            name=_called(self.name, word),
            summary=f"Candidate {word} of the space {self.name}",
            published=None,
            weights={},
        )

    def describe(self, genome: Genome) -> list[str]:
        """A candidate in a few short lines."""
        return described(chosen(self, self.canonical(genome)))

    def covering(self) -> Iterator[Genome]:
        """Genomes whose networks have all parts of any: all of them, where a kind knows no fewer."""
        return all_genomes(self)

    @abstractmethod
    def canonical(self, genome: Genome) -> Genome:
        """The least genome of the same network."""

    @abstractmethod
    def problem(self, genome: Genome) -> str:
        """Why the genome describes no network; "" when it does."""

    @abstractmethod
    def copies(self, genome: Genome) -> int:
        """How many genomes describe the network of this valid one."""

    @abstractmethod
    def encode(self, spec: ModelSpec) -> Genome | None:
        """The canonical genome whose network is that of a definition; None when the space has none."""

    @abstractmethod
    def _made(self, genome: Genome) -> ModelSpec:
        """The definition of a canonical genome, under any name."""

    def _parts(self, genome: Genome) -> list[Genome]:
        """The genome's part of each group."""
        return cut(genome, [len(group.genes) for group in self.groups])


def _called(space: str, word: str) -> str:
    """A candidate's name; of a genome too long for the name of a file, a digest."""
    name = f"{space}-{word}"
    if len(name.encode(errors="replace")) <= MOST_BYTES:
        return name
    return f"{space}-{hashlib.sha256(word.encode()).hexdigest()[:16]}"


def cut(genome: Genome, lengths: Iterable[int]) -> list[Genome]:
    """A genome in consecutive parts of these lengths."""
    ends = itertools.accumulate(lengths, initial=0)
    return [genome[start:end] for start, end in itertools.pairwise(ends)]


def described(values: Mapping[str, Choice]) -> list[str]:
    """Choices as lines of "name value, name value"."""
    lines = [""]
    for name, value in values.items():
        text = f"{name} {str(value).lower() if isinstance(value, bool) else value}"
        if lines[-1] and len(lines[-1]) + len(text) > _LINE:
            lines.append("")
        lines[-1] += f", {text}" if lines[-1] else text
    return lines if lines[0] else []


def sized(spec: ModelSpec, side: Choice | None) -> InputSpec:
    """The input as a square of `side` pixels; as it is for None."""
    return spec.input if side is None else dataclasses.replace(spec.input, size=(side, side))  # type: ignore[arg-type]
