"""Search spaces of cell networks, such as NASNet and PNASNet.

A base network of cells, whose genotypes are searched:

    kind = "cells"
    base = "nasnet-cifar"
    nodes = 5
    ops = ["identity", "sep3x3", "sep5x5", "avg3x3", "max3x3"]
    reduction = true       # a second cell that halves the resolution; false: one cell for both, as PNASNet
    output = "loose"       # nodes that are no node's input; "all": all nodes; "choose": genes decide
    repeats = 2
    filters = [16, 32]

`repeats`, `filters`, `stem` and `size` (side of the image in pixels) may be lists of choices.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.genotype import OPERATIONS, decode, encode
from effkeras.definitions.networks import BatchNormSpec
from effkeras.graph.networks.cells import CellNetwork
from effkeras.search.genomes import Gene, Genome
from effkeras.search.spaces import choices
from effkeras.search.spaces.cell_genes import OUTPUTS, CellGenes
from effkeras.search.spaces.choices import Rules, read_group
from effkeras.search.spaces.toml_space import SpaceFile, TomlSpace, cut, described, sized
from effkeras.support.errors import EffkerasError, did_you_mean

NETWORK_RULES: Rules = {
    "size": choices.COUNT,
    "repeats": choices.COUNT,
    "filters": choices.COUNT,
    "stem": choices.COUNT,
}
_OWN = ("repeats", "filters", "stem")
_MOST_NODES = 10  # NASNet and PNASNet have 5


@dataclass(frozen=True)
class CellSpace(TomlSpace):
    """A space of cell networks; the genes of the network come first, then those of each cell."""

    network: CellNetwork
    cells: tuple[CellGenes, ...]

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All genes."""
        return (*self.groups[0].genes, *itertools.chain.from_iterable(cell.genes for cell in self.cells))

    def canonical(self, genome: Genome) -> Genome:
        """The lowest genome of the same cells."""
        own, *parts = self._split(genome)
        lowest = (cell.canonical(part) for cell, part in zip(self.cells, parts, strict=True))
        return (*own, *itertools.chain.from_iterable(lowest))

    def problem(self, genome: Genome) -> str:
        """Always "": every genome is valid, as a node's inputs are always earlier maps."""
        return ""

    def copies(self, genome: Genome) -> int:
        """The number of genomes of the same cells."""
        _, *parts = self._split(genome)
        product = 1
        for cell, part in zip(self.cells, parts, strict=True):
            product *= cell.copies(part)
        return product

    def encode(self, spec: ModelSpec) -> Genome | None:
        """The canonical genome for a definition's cells, size, repeats, filters and stem, or None."""
        network = CellNetwork.match(spec.network)
        if network is None or bool(network.reduction) != (len(self.cells) > 1):
            return None
        values = {"size": spec.input.size[0], **{key: getattr(network, key) for key in _OWN}}
        genome = self.groups[0].part_of(values)
        for cell in self.cells:
            part = cell.encode(decode(getattr(network, cell.name)))
            if genome is None or part is None:
                return None
            genome += part
        return genome if genome is not None and _is_alike(self._made(genome), spec) else None

    def describe(self, genome: Genome) -> list[str]:
        """The network's choices, then the genotypes."""
        own, *parts = self._split(self.canonical(genome))
        values = self.groups[0].values(own)
        lines = described({gene.name: values[gene.name] for gene in self.groups[0].genes})
        for cell, part in zip(self.cells, parts, strict=True):
            lines += [f"{cell.name}: {text}" for text in encode(cell.cell(part))]
        return lines

    def _made(self, genome: Genome) -> ModelSpec:
        own, *parts = self._split(genome)
        values = self.groups[0].values(own)
        changes: dict[str, Any] = {key: values[key] for key in _OWN if key in values}
        for cell, part in zip(self.cells, parts, strict=True):
            changes[cell.name] = encode(cell.cell(part))
        network = dataclasses.replace(self.network, **changes)
        return self.base.replace(input=sized(self.base, values.get("size")), network=network)

    def _split(self, genome: Genome) -> list[Genome]:
        lengths = (len(self.groups[0].genes), *(len(cell.genes) for cell in self.cells))
        return cut(genome, lengths)


def read_cells(file: SpaceFile) -> CellSpace:
    """Reads a space of cell networks from a file.

    Raises EffkerasError for a base without cells, and for invalid keys and choices.
    """
    file.check_keys((*NETWORK_RULES, "nodes", "ops", "output", "reduction"))
    base = file.base
    network = CellNetwork.match(base.network)
    if network is None:
        raise EffkerasError(
            f"{file.path}: {base.name} is no network of cells; choose nasnet or pnasnet as base"
        )
    file.check_widths()
    has_reduction = file.scalar("reduction", choices.FLAG, bool(network.reduction))
    network = network if has_reduction else _without_reduction(network)
    names = ("normal", "reduction") if has_reduction else ("normal",)
    cells = tuple(_cell_genes(file, name, network) for name in names)
    group = read_group("", file.part(*NETWORK_RULES), NETWORK_RULES, str(file.path))
    return CellSpace(file, (group,), network, cells)


def _cell_genes(file: SpaceFile, name: str, network: CellNetwork) -> CellGenes:
    nodes = file.scalar("nodes", choices.COUNT, len(decode(network.normal).nodes))
    if nodes > _MOST_NODES:
        raise EffkerasError(f"{file.path}: nodes must be at most {_MOST_NODES}, not {nodes}")
    return CellGenes(name, nodes, _ops(file), file.scalar("output", choices.one_of(OUTPUTS), "loose"))


def _ops(file: SpaceFile) -> tuple[str, ...]:
    ops = file.table.get("ops", list(OPERATIONS))
    if not isinstance(ops, list) or not ops:
        raise EffkerasError(f"{file.path}: ops must be a list of operations, at least one, not {ops!r}")
    for index, op in enumerate(ops):
        if op not in OPERATIONS:
            raise EffkerasError(
                f"{file.path}: ops: unknown operation {op!r}; {did_you_mean(str(op), OPERATIONS)}"
            )
        if op in ops[:index]:
            raise EffkerasError(f"{file.path}: ops lists {op!r} twice; give each operation once")
    return tuple(ops)


def _without_reduction(network: CellNetwork) -> CellNetwork:
    return dataclasses.replace(network, reduction=(), skip_reduction=False)


def _is_alike(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether two networks of the same cells differ only in settings of training."""
    neutral: dict[str, Any] = {
        "normal": (),
        "reduction": (),
        "dropout": 0.0,
        "survival": 1.0,
        "auxiliary": 0.0,
        "batch_norm": BatchNormSpec(),
    }
    return one.input.size == other.input.size and (
        dataclasses.replace(one.network, **neutral) == dataclasses.replace(other.network, **neutral)
    )
