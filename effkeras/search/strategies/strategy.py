"""The interface of strategies: `ask` for a genome, `tell` its result.

A strategy depends only on its seed and on the calls of `ask` and `tell`, so the same calls in the same order
make the same proposals. The store keeps that order: a search resumes by replaying the calls, and every
worker keeps its own copy of the strategy up to date in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from effkeras.search.genomes import Genome, Space, all_genomes, mutate, raw_count, sample
from effkeras.support.errors import EffkerasError
from effkeras.support.registry import Registry
from effkeras.support.tables import to_record


@dataclass(frozen=True, slots=True)
class Feedback:
    """The result of a proposal.

    `ask` is the number of the call of `ask`, from 0; results may arrive in another order than the
    proposals. `reward` is None for a failed candidate. `accuracy` and `cost` are for strategies that weigh
    them themselves; both are None for a failed candidate. `cost` is given for a Pareto front only: any
    other reward already includes it, or ignores it.
    """

    ask: int
    genome: Genome
    reward: float | None
    accuracy: float | None = None
    cost: float | None = None


class Strategy(Protocol):
    """Proposes genomes; any number of proposals may be running at once."""

    def ask(self) -> Genome:
        """The next genome to try: valid and canonical. A genome that was tried before is allowed."""
        ...

    def tell(self, feedback: Feedback) -> None:
        """Learns from one result."""
        ...


# Draws until the untried genomes are listed, or a repeat is accepted.
_DRAWS = 200
# The largest space, in raw genomes, that is listed to find the untried ones.
_LISTED = 50_000
# Mutations for each number of genes to change, before a tried genome is accepted.
_MUTATIONS = 30


class ProposedGenomes:
    """The genomes proposed so far; draws and mutates new ones."""

    def __init__(self, space: Space, random: np.random.Generator) -> None:
        self._space = space
        self._random = random
        self._genomes: set[Genome] = set()
        self._left: list[Genome] | None = None
        self._is_all = False

    def __contains__(self, genome: Genome) -> bool:
        return genome in self._genomes

    def add(self, genome: Genome) -> Genome:
        """Adds a canonical genome and returns it."""
        self._genomes.add(genome)
        return genome

    @property
    def is_all(self) -> bool:
        """Whether all genomes were proposed, as far as known; `drawn` finds out in a listable space."""
        return self._is_all

    def drawn(self) -> Genome:
        """A genome drawn from the untried ones while there are any, then from all."""
        for _ in range(_DRAWS if self._left is None else 0):
            if (genome := sample(self._space, self._random)) not in self:
                return genome
        left = self._untried()
        return left[int(self._random.integers(len(left)))] if left else sample(self._space, self._random)

    def mutated(self, parent: Genome) -> Genome:
        """An untried mutation of one gene; of more genes when those were all tried."""
        genome = parent
        for genes in range(1, len(self._space.genes) + 1):
            for _ in range(_MUTATIONS):
                genome = mutate(self._space, parent, self._random, genes)
                if genome not in self or self._is_all:
                    return genome
                if genome == parent:  # no change of this many genes is valid
                    break
        return genome

    def _untried(self) -> list[Genome]:
        """All untried genomes; [] in a space too large to list."""
        is_listable = raw_count(self._space) <= _LISTED
        if self._left is None:
            self._left = list(all_genomes(self._space)) if is_listable else []
        self._left = [genome for genome in self._left if genome not in self]
        self._is_all = is_listable and not self._left
        return self._left


@dataclass(frozen=True, slots=True)
class StrategyKind:
    """A registered strategy.

    `make` takes a space, a seed and a record of the class `options`, which holds the default options.
    `takes_front` is True if it works for a Pareto front: it weighs accuracy against cost, or uses neither.
    """

    summary: str
    options: type
    make: Callable[..., Strategy]
    takes_front: bool = False


STRATEGIES: Registry[StrategyKind] = Registry("strategy", "effkeras.search.strategies")


def register(
    name: str, summary: str, options: type, *, takes_front: bool = False
) -> Callable[[Callable[..., Strategy]], Callable[..., Strategy]]:
    """A decorator that registers a class or function which makes a strategy; see `StrategyKind`."""

    def add(make: Callable[..., Strategy]) -> Callable[..., Strategy]:
        STRATEGIES.register(name)(StrategyKind(summary, options, make, takes_front))
        return make

    return add


def make_strategy(name: str, space: Space, seed: int, options: Mapping[str, Any] | None = None) -> Strategy:
    """Makes a strategy by name, with `options` instead of its defaults.

    Raises EffkerasError for an unknown name or option, for an invalid value or seed, and for a strategy that
    needs Optuna when it is not installed.
    """
    kind = STRATEGIES.get(name)
    if seed < 0:
        raise EffkerasError(f"the seed must be 0 or more, not {seed}")
    return kind.make(space, seed, to_record(kind.options, options or {}, f"options of {name}"))


def default_options(name: str) -> dict[str, Any]:
    """The options of a strategy and their defaults; raises EffkerasError for an unknown name."""
    return dataclasses.asdict(STRATEGIES.get(name).options())


def strategy_summaries() -> dict[str, str]:
    """One line about each strategy, by name."""
    return {name: kind.summary for name, kind in STRATEGIES.entries().items()}
