"""What all kinds of spaces have in common."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from effkeras.definition import InputSpec, ModelSpec
from effkeras.errors import EffkerasError
from effkeras.files import MOST_BYTES
from effkeras.search.genomes import Choice, Gene, Genome, all_genomes, chosen, key
from effkeras.search.spaces.choices import Group
from effkeras.search.spaces.file import SpaceFile

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
