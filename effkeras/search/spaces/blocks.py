"""Search spaces of block networks, such as MnasNet and EfficientNet.

The stages of a base network, with choices for each (arXiv:1807.11626, section 4.1):

    kind = "blocks"
    base = "mnasnet-a1"
    size = [192, 224]

    [every]                # each stage, unless its own table says otherwise
    kernel = [3, 5]
    squeeze = [0, 0.25]

    [[stage]]              # one table per stage of the base; an empty one changes nothing
    op = "separable"

A list is a gene, a scalar is fixed, and a missing key keeps the value of the base. Keys of a stage:

- `op`: mbconv; separable, an mbconv without expansion; fused, one convolution that expands and filters;
  conv, a fused block without expansion; or skip.
- `kernel` (3, or "3.5" for two kernels of half the channels each), `expand`, `squeeze`, `outputs`, `repeats`
  (0 is a skip), `stride`, `activation`, and `shortcut`: whether to add the input where shapes match.

Keys of the network: `size` (side of the image in pixels), `width` (factor of all outputs, and of stem and
head if the family scales them), `stem`, `head` and `activation`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from effkeras.definitions.blocks import decode, encode
from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.graph.networks.blocks import BlockNetwork
from effkeras.search.genomes import Genome
from effkeras.search.spaces import choices
from effkeras.search.spaces.choices import Rules, read_group
from effkeras.search.spaces.covering import Walk
from effkeras.search.spaces.stages import (
    STAGE_RULES,
    Built,
    Frame,
    StageChoices,
    StageTable,
    built,
    stage_choices,
    stage_table,
)
from effkeras.search.spaces.toml_space import SpaceFile, TomlSpace, described, sized
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table

NETWORK_RULES: Rules = {
    "size": choices.COUNT,
    "width": choices.WIDTH,
    "stem": choices.COUNT,
    "head": choices.COUNT,
    "activation": choices.ACTIVATION,
}


@dataclass(frozen=True, slots=True)
class _Setting:
    """The network's own choices: the part of the genome, the input, and the network around the blocks."""

    part: Genome
    input: InputSpec
    frame: Frame

    def fits(self, other: BlockNetwork, size: tuple[int, int]) -> bool:
        """Whether another network has the same input size, stem, head and settings around its blocks."""
        own = self.frame.network
        fields = ("stem", "head", "hidden", "activation", "squeeze", "padding")
        return self.input.size == size and all(getattr(own, name) == getattr(other, name) for name in fields)


class _Division(NamedTuple):
    """The lowest genes that build a sequence of blocks, or None, and the number of genomes that do."""

    lowest: Genome | None
    ways: int

    def after(self, part: Genome, copies: int) -> _Division:
        """Prepends the genes of the previous stage."""
        return _Division(None if self.lowest is None else part + self.lowest, copies * self.ways)


@dataclass(frozen=True)
class BlockSpace(TomlSpace):
    """A space of block networks; `network` is the network of the base, as built."""

    network: BlockNetwork
    stages: tuple[StageChoices, ...]
    _tables: dict[Any, StageTable] = field(default_factory=dict, repr=False, compare=False)

    def canonical(self, genome: Genome) -> Genome:
        """The lowest genome that builds the same blocks between the same stem and head."""
        setting, *parts = self._decided(genome)
        found = self._encoded(self._blocks(setting, parts), setting.frame.network, setting.input.size)
        return genome if found is None else found

    def problem(self, genome: Genome) -> str:
        """The conflicting choices of a stage, or that every stage is skipped; "" for a valid genome."""
        setting, *parts = self._decided(genome)
        try:
            return "" if self._blocks(setting, parts) else "every stage is skipped"
        except EffkerasError as error:
            return str(error)

    def copies(self, genome: Genome) -> int:
        """The number of genomes that build the same network."""
        setting, *parts = self._decided(genome)
        row = self._blocks(setting, parts)
        network, size = setting.frame.network, setting.input.size
        fitting = (other for other in self._settings.values() if other.fits(network, size))
        return sum(self._division(row, other).ways for other in fitting)

    def covering(self) -> Iterator[Genome]:
        """Genomes whose networks have, together, every block, stem and head of the space at each map size."""
        seen: set[Hashable] = set()
        for setting in self._settings.values():
            tables = functools.partial(self._table, setting=setting)
            walk = Walk(len(self.stages), setting.frame.network.stem, tables)
            yield from (setting.part + genes for genes in walk.covering(setting.input.size, seen))

    def encode(self, spec: ModelSpec) -> Genome | None:
        """The canonical genome that builds a definition's blocks, stem and head; None when there is none."""
        network = BlockNetwork.match(spec.network)
        if network is None or spec.channels:
            return None
        network = network.as_built()
        return self._encoded(built(network), network, spec.input.size)

    def describe(self, genome: Genome) -> list[str]:
        """The network's choices, then the block strings."""
        lowest = self.canonical(genome)
        setting, *parts = self._decided(lowest)
        network = self.groups[0]
        named = {gene.name: network.values(setting.part)[gene.name] for gene in network.genes}
        return [*described(named), *self._texts(setting, parts)]

    def _made(self, genome: Genome) -> ModelSpec:
        setting, *parts = self._decided(genome)
        texts = tuple(self._texts(setting, parts))
        network = dataclasses.replace(setting.frame.network, blocks=texts)
        return self.base.replace(input=setting.input, network=network)

    def _texts(self, setting: _Setting, parts: list[Genome]) -> Iterator[str]:
        inputs = setting.frame.network.stem
        for stage, part in zip(self.stages, parts, strict=True):
            made = stage.made(part, inputs, setting.frame)
            if made is not None:
                yield encode(made)
                inputs = made.outputs

    @cached_property
    def _settings(self) -> dict[Genome, _Setting]:
        return {part: self._setting(part) for part in self.groups[0].parts()}

    def _setting(self, part: Genome) -> _Setting:
        values = self.groups[0].values(part)
        own: dict[str, Any] = {key: values[key] for key in ("stem", "head", "activation") if key in values}
        width = float(values.get("width", 1.0))
        network = dataclasses.replace(self.network, **own).with_ends(width)
        return _Setting(part, sized(self.base, values.get("size")), Frame(network, width))

    def _decided(self, genome: Genome) -> tuple[Any, ...]:
        """The network's own choices in a genome, and its part for each stage."""
        network, *stages = self._parts(genome)
        return self._settings[network], *stages

    def _blocks(self, setting: _Setting, parts: list[Genome]) -> tuple[Built, ...]:
        """The chosen blocks; raises EffkerasError for conflicting choices."""
        row: tuple[Built, ...] = ()
        for index, part in enumerate(parts):
            table = self._table(index, _width_after(row, setting), setting)
            if part in table.problems:
                raise EffkerasError(table.problems[part])
            row += table.blocks[part]
        return row

    def _encoded(self, row: tuple[Built, ...], network: BlockNetwork, size: tuple[int, int]) -> Genome | None:
        for setting in self._settings.values():  # in ascending order of their parts
            if setting.fits(network, size) and (lowest := self._division(row, setting).lowest) is not None:
                return setting.part + lowest
        return None

    def _division(self, row: tuple[Built, ...], setting: _Setting) -> _Division:
        """How to divide a sequence of blocks among the stages."""

        @functools.cache
        def rest(index: int, start: int) -> _Division:
            if index == len(self.stages):
                return _Division((), 1) if start == len(row) else _Division(None, 0)
            table = self._table(index, _width_after(row[:start], setting), setting)
            heads = (row[start : start + length] for length in table.lengths if start + length <= len(row))
            return _either(
                [
                    rest(index + 1, start + len(head)).after(table.lowest[head], table.copies[head])
                    for head in heads
                    if head in table.lowest
                ]
            )

        return rest(0, 0)

    def _table(self, index: int, inputs: int, setting: _Setting) -> StageTable:
        frame = setting.frame
        name = (index, inputs, frame.width, frame.network.activation)
        if name not in self._tables:
            self._tables[name] = stage_table(self.stages[index], inputs, frame)
        return self._tables[name]


def _either(divisions: Sequence[_Division]) -> _Division:
    """Combines several divisions."""
    lowest = min((one.lowest for one in divisions if one.lowest is not None), default=None)
    return _Division(lowest, sum(one.ways for one in divisions))


def _width_after(row: tuple[Built, ...], setting: _Setting) -> int:
    """The number of channels after some blocks."""
    return row[-1].outputs if row else setting.frame.network.stem


def read_blocks(file: SpaceFile) -> BlockSpace:
    """Reads a space of block networks from a file.

    Raises EffkerasError for a base without blocks, and for invalid keys and choices.
    """
    file.check_keys((*NETWORK_RULES, "every", "stage"))
    base = file.base
    network = BlockNetwork.match(base.network)
    if network is None:
        raise EffkerasError(f"{file.path}: {base.name} is no network of blocks; choose an MBConv family")
    file.check_widths()
    network = network.as_built()
    stages = tuple(_stages(file, network))
    own = read_group("", file.part(*NETWORK_RULES), NETWORK_RULES, str(file.path))
    return BlockSpace(file, (own, *(stage.group for stage in stages)), network, stages)


def _stages(file: SpaceFile, network: BlockNetwork) -> Iterator[StageChoices]:
    tables = _stage_tables(file, len(network.blocks))
    every = file.subtable("every")
    read_group("", every, STAGE_RULES, f"{file.path}: [every]")
    for number, (text, table) in enumerate(zip(network.blocks, tables, strict=True), start=1):
        where = f"{file.path}: stage {number}"
        yield stage_choices(decode(text), f"stage{number}", {**every, **table}, where)


def _stage_tables(file: SpaceFile, count: int) -> list[Table]:
    tables = file.table.get("stage", [{}] * count)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise EffkerasError(f"{file.path}: stage must be a list of tables, each under [[stage]]")
    if len(tables) != count:
        raise EffkerasError(
            f"{file.path}: stage: {len(tables)} tables for the {count} stages of {file.base.name}; "
            "write one [[stage]] for each, an empty one for a stage that stays as it is"
        )
    return tables
