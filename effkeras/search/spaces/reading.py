"""Search spaces of models: their interface, and how to find, read and check one by name or path."""

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
        """The file's name without its suffix."""
        ...

    @property
    def source(self) -> str:
        """The argument to read it again: the name of a space of effkeras, or the absolute path of a file."""
        ...

    @property
    def summary(self) -> str:
        """One line about the space; "" when its file has none."""
        ...

    @property
    def digest(self) -> str:
        """A hash of 16 hex digits of the choices and the base, without comments, name and summary."""
        ...

    @property
    def base(self) -> ModelSpec:
        """The definition that every candidate starts from."""
        ...

    @property
    def table(self) -> Mapping[str, Any]:
        """The content of the file."""
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
        """The number of genomes of the space with the network of this valid one, including itself."""
        ...

    def covering(self) -> Iterator[Genome]:
        """Valid genomes whose networks have, together, every block, stem and head of the space."""
        ...

    def encode(self, spec: ModelSpec) -> Genome | None:
        """The canonical genome with the network of a definition; None when the space has none.

        Ignores settings of training (dropout, batch normalization) and the classes.
        """
        ...


_KINDS: Mapping[str, Callable[[SpaceFile], TomlSpace]] = {
    "blocks": read_blocks,
    "cells": read_cells,
    "detector": read_detector,
    "scaling": read_scaling,
}
# If this many draws cannot be built, the cause is a value that all candidates share.
_STARTS = 30


def space_names() -> list[str]:
    """Names of the spaces that come with effkeras, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def space_summaries() -> dict[str, str]:
    """The summaries of the spaces that come with effkeras, by name."""
    return {name: read_file(_path(name)).summary for name in space_names()}


def read_space(name_or_path: str | Path) -> ModelSpace:
    """Reads a space by name, or from the path of a TOML file.

    Raises EffkerasError, in one line with file and key, for a file that cannot be read or is invalid, a
    space without genes, choices that cannot be built, and genes without a valid choice.
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
    """Raises EffkerasError for a space without genes or valid genomes, and for choices that do not build."""
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
    """A genome that can be built; changing one gene of it then shows which choices cannot."""
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
