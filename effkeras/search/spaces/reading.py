"""Spaces of models: what each offers, and how one is found by name or path, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.search.genomes import Genome, Space, check_space, sample
from effkeras.search.spaces.blocks import read_blocks
from effkeras.search.spaces.cells import read_cells
from effkeras.search.spaces.detector import read_detector
from effkeras.search.spaces.scaling import read_scaling
from effkeras.search.spaces.toml_space import SpaceFile, TomlSpace, read_file
from effkeras.support.errors import EffkerasError, did_you_mean


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


_KINDS: Mapping[str, Callable[[SpaceFile], TomlSpace]] = {
    "blocks": read_blocks,
    "cells": read_cells,
    "detector": read_detector,
    "scaling": read_scaling,
}
# Draws until it is what all candidates share that cannot be built.
_STARTS = 30


def space_names() -> list[str]:
    """Names of the spaces that come with effkeras, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def space_summaries() -> dict[str, str]:
    """The line that each of them says of itself, by its name."""
    return {name: read_file(_path(name)).summary for name in space_names()}


def read_space(name_or_path: str | Path) -> ModelSpace:
    """A space of effkeras by name, or a TOML file's.

    Raises EffkerasError, in one line with file and key, for what cannot be read, understood or searched:
    a space without genes, choices that cannot be built, genes of which no choice makes a network.
    """
    file = read_file(_path(str(name_or_path)))
    kind = file.table.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise EffkerasError(f"{file.path}: kind must be one of {', '.join(_KINDS)}, not {kind!r}")
    space = _KINDS[kind](file)
    _check(space)
    return space


def _path(name: str) -> Path:
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    if name not in space_names():
        hint = did_you_mean(name, space_names())
        raise EffkerasError(f"there is no space {name!r}; {hint} (or give the path of a TOML file)")
    return Path(__file__).parent / f"{name}.toml"


def _check(space: TomlSpace) -> None:
    """Raises EffkerasError for a space that cannot be searched, and for a choice that cannot be built."""
    path = space.file.path
    try:
        check_space(space)
        start = _buildable(space)
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error
    for index, gene in enumerate(space.genes):
        for choice, value in enumerate(gene.choices):
            try:
                _build(space, (*start[:index], choice, *start[index + 1 :]))
            except EffkerasError as error:
                raise EffkerasError(f"{path}: {gene.name} = {value!r}: {error}") from error


def _buildable(space: TomlSpace) -> Genome:
    """A genome whose definition is sound: where one choice is not, the others show which."""
    random = np.random.default_rng(0)
    for _ in range(_STARTS):
        genome = sample(space, random)
        try:
            _build(space, genome)
        except EffkerasError as error:
            why = error
        else:
            return genome
    raise why


def _build(space: TomlSpace, genome: Genome) -> None:
    if not space.problem(genome):
        space.spec(genome)
