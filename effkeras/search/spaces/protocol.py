"""What every space of models is: a space whose genomes become definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from effkeras.definition import ModelSpec
from effkeras.search.genomes import Genome, Space


class ModelSpace(Space, Protocol):
    """A space, read from a TOML file, whose genomes describe models."""

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        ...

    @property
    def source(self) -> str:
        """What it is read again by: the name of a space that ships, the absolute path of any other file."""
        ...

    @property
    def summary(self) -> str:
        """One line about the space; "" when its file has none."""
        ...

    @property
    def digest(self) -> str:
        """Sixteen hex digits of what the file means: choices and base, not comments, name or summary."""
        ...

    @property
    def base(self) -> ModelSpec:
        """The definition that every candidate starts from."""
        ...

    @property
    def table(self) -> Mapping[str, Any]:
        """What the file says."""
        ...

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition of a candidate, named after the space and its canonical genome.

        Raises EffkerasError when the genome describes no network.
        """
        ...

    def describe(self, genome: Genome) -> list[str]:
        """A candidate in a few short lines: its choices, block strings or genotypes."""
        ...

    def copies(self, genome: Genome) -> int:
        """How many genomes of the space describe the network of this valid one, itself included."""
        ...

    def covering(self) -> Iterator[Genome]:
        """Valid genomes whose networks have, together, every block, stem and head that any network has."""
        ...

    def encode(self, spec: ModelSpec) -> Genome | None:
        """The canonical genome whose network is that of a definition; None when the space has none.

        What concerns training only (dropout, batch normalisation, classes) is not compared.
        """
        ...
