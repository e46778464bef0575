"""Finds few networks that together have every block of a space, for a table of block latencies.

A block depends on its stage's choices and on its input maps: their channels and how often they were halved.
Few such states reach a stage, so all blocks are found without enumerating all networks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from effkeras.search.genomes import Genome
from effkeras.search.spaces.stages import Built, StageTable

Row = tuple[Built, ...]


class State(NamedTuple):
    """Feature maps between two stages: channels, number of halvings, whether a block came before."""

    channels: int
    halvings: int
    is_started: bool

    def after(self, row: Row) -> State:
        """The state after the blocks of a stage."""
        halvings = self.halvings + sum(block.stride == 2 for block in row)
        return State(row[-1].outputs, halvings, True) if row else self


@dataclass(frozen=True)
class Walk:
    """All paths through the stages of a space, between the same stem and head.

    `table` gives the choices of a stage, from its index and the number of input channels.
    """

    stages: int
    stem: int
    table: Callable[[int, int], StageTable]

    def covering(self, about: Hashable, seen: set[Hashable]) -> Iterator[Genome]:
        """The stage genes of networks that have all blocks, and all maps that reach the head.

        Skips blocks that `seen` has under the key `about`, and adds the ones it finds.
        """
        for index, states in enumerate(self._reached[:-1]):
            for state, before in states.items():
                yield from self._through(index, state, before, (about, seen))
        yield from (genes for state, genes in self._reached[-1].items() if state.is_started)

    def _through(
        self, index: int, state: State, before: Genome, known: tuple[Hashable, set[Hashable]]
    ) -> Iterator[Genome]:
        """Networks with all new blocks of one stage after one state, the longest sequences first."""
        about, seen = known
        rows = self.table(index, state.channels).lowest
        for row in sorted(rows, key=len, reverse=True):
            blocks = set(_placed(about, state, row)) - seen
            rest = self._rest(index + 1, state.after(row)) if blocks else None
            if rest is not None:
                seen |= blocks
                yield before + rows[row] + rest

    @cached_property
    def _reached(self) -> list[dict[State, Genome]]:
        """The states before each stage and after the last one, each with genes that lead to it."""
        reached: list[dict[State, Genome]] = [{State(self.stem, 0, False): ()}]
        for index in range(self.stages):
            behind: dict[State, Genome] = {}
            for state, genes in reached[-1].items():
                for row, part in self.table(index, state.channels).lowest.items():
                    behind.setdefault(state.after(row), genes + part)
            reached.append(behind)
        return reached

    def _rest(self, index: int, state: State) -> Genome | None:
        """Genes of the remaining stages; None when they cannot complete a network."""
        if index == self.stages:
            return () if state.is_started else None
        for row, part in self.table(index, state.channels).lowest.items():
            rest = self._rest(index + 1, state.after(row))
            if rest is not None:
                return part + rest
        return None


def _placed(about: Hashable, state: State, row: Row) -> Iterator[Hashable]:
    """The blocks of a sequence, each with the number of halvings of its input maps."""
    halvings = state.halvings
    for block in row:
        yield about, halvings, block
        halvings += block.stride == 2
