"""Genomes: candidates of a search as tuples of numbers; draws, mutates, crosses and counts them.

A genome holds the index of a choice for every gene of its space. Different genomes may describe the
same network; `Space.canonical` selects one of them, and a search tries only canonical genomes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from effkeras.support.errors import EffkerasError

Choice = str | int | float | bool
Genome = tuple[int, ...]

# The number of draws without a valid genome after which `sample` gives up.
_DRAWS = 10_000
# `count` enumerates a space of up to this many genomes per draw; it estimates larger ones.
_COUNTED = 10


@dataclass(frozen=True, slots=True)
class Gene:
    """One decision: its name and its choices."""

    name: str
    choices: tuple[Choice, ...]


class Space(Protocol):
    """A search space."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """All genes, in the order in which a controller decides them."""
        ...

    def canonical(self, genome: Genome) -> Genome:
        """The one genome that represents all genomes of the same network; idempotent."""
        ...

    def problem(self, genome: Genome) -> str:
        """Why the genome describes no network; "" when it describes one."""
        ...


def chosen(space: Space, genome: Genome) -> dict[str, Choice]:
    """The choices of a genome, by gene name."""
    return {gene.name: gene.choices[index] for gene, index in zip(space.genes, genome, strict=True)}


def key(genome: Genome) -> str:
    """A canonical genome as text for files and stores, such as "3-0-1"."""
    return "-".join(map(str, genome))


def genome_of(word: str, space: Space) -> Genome:
    """The genome from the text that `key` wrote.

    Raises EffkerasError when the text is not a genome of the space.
    """
    try:
        genome = tuple(int(part) for part in word.split("-"))
    except ValueError as error:
        raise EffkerasError(f"{word!r} is no genome: it should be numbers like 3-0-1") from error
    sizes = [len(gene.choices) for gene in space.genes]
    if len(genome) != len(sizes) or not all(0 <= i < n for i, n in zip(genome, sizes, strict=True)):
        raise EffkerasError(f"{word!r} is no genome of this space, which has {len(sizes)} genes")
    return genome


def check_space(space: Space) -> Genome:
    """Returns a valid genome; raises EffkerasError when the space has no choices or no valid genome."""
    if not space.genes:
        raise EffkerasError("the space has no genes: give at least one key a list of choices")
    for gene in space.genes:
        if not gene.choices:
            raise EffkerasError(f"the space's gene {gene.name!r} has no choices")
        if len(set(map(repr, gene.choices))) < len(gene.choices):
            raise EffkerasError(f"the space's gene {gene.name!r} has a choice twice: {gene.choices}")
    return sample(space, np.random.default_rng(0))


def sample(space: Space, random: np.random.Generator) -> Genome:
    """Draws a valid canonical genome; all raw genomes are equally likely.

    When none of many draws is valid, it mutates the space's `start`, or raises EffkerasError if the space
    has none.
    """
    why = ""
    for _ in range(_DRAWS):
        genome = tuple(int(random.integers(len(gene.choices))) for gene in space.genes)
        why = space.problem(genome)
        if not why:
            return space.canonical(genome)
    start: Genome | None = getattr(space, "start", None)
    if start is None:
        raise EffkerasError(
            f"the space has no valid genome: none of {_DRAWS:,} random draws is a network, as {why}"
        )
    for _ in space.genes:
        start = mutate(space, start, random)
    return start


def mutate(space: Space, genome: Genome, random: np.random.Generator, genes: int = 1) -> Genome:
    """A valid canonical genome of another network, with up to `genes` genes changed.

    Returns the genome itself when no such change leads to another network.
    """
    free = [index for index, gene in enumerate(space.genes) if len(gene.choices) > 1]
    for _ in range(_DRAWS if free else 0):
        changed = list(genome)
        for index in random.choice(free, size=min(genes, len(free)), replace=False):
            others = [choice for choice in range(len(space.genes[index].choices)) if choice != genome[index]]
            changed[index] = int(random.choice(others))
        if not space.problem(tuple(changed)) and (made := space.canonical(tuple(changed))) != genome:
            return made
    return genome


def cross(space: Space, one: Genome, other: Genome, random: np.random.Generator) -> Genome:
    """Takes each gene from one of two genomes (uniform crossover); `one` when no valid result is found."""
    for _ in range(100):
        takes = random.random(len(one)) < 0.5
        mixed = tuple(a if take else b for a, b, take in zip(one, other, takes, strict=True))
        if not space.problem(mixed):
            return space.canonical(mixed)
    return one


def neighbours(space: Space, genome: Genome) -> Iterator[Genome]:
    """All valid canonical genomes that differ in one gene, each once, without the genome itself."""
    seen = {genome}
    for index, gene in enumerate(space.genes):
        for choice in range(len(gene.choices)):
            changed = (*genome[:index], choice, *genome[index + 1 :])
            if space.problem(changed) or (made := space.canonical(changed)) in seen:
                continue
            seen.add(made)
            yield made


def raw_count(space: Space) -> int:
    """The number of raw genomes, including invalid ones and duplicates."""
    return math.prod(len(gene.choices) for gene in space.genes)


def all_genomes(space: Space) -> Iterator[Genome]:
    """Every valid canonical genome once, ordered by the first raw genome of each."""
    seen = set()
    for genome in itertools.product(*(range(len(gene.choices)) for gene in space.genes)):
        if not space.problem(genome) and (made := space.canonical(genome)) not in seen:
            seen.add(made)
            yield made


@dataclass(frozen=True, slots=True)
class Count:
    """The number of networks of a space; `exact` is False for an estimate."""

    networks: int
    exact: bool


def count(space: Space, draws: int = 20_000, seed: int = 0) -> Count:
    """Counts the networks of a space, or estimates the number when there are too many to enumerate.

    The estimate is the number of raw genomes times the share of draws that are valid and canonical.
    Where that share is small, as with cells, a space has a method `copies`: the number of genomes that
    describe the same network as a valid genome. Each draw then counts 1 / copies, which varies far less.
    """
    raw = raw_count(space)
    if raw <= _COUNTED * draws:
        return Count(sum(1 for _ in all_genomes(space)), exact=True)
    random = np.random.default_rng(seed)
    sizes = [len(gene.choices) for gene in space.genes]
    drawn: Sequence[Genome] = [
        tuple(map(int, row)) for row in random.integers(sizes, size=(draws, len(sizes)))
    ]
    return Count(round(raw * sum(_part(space, one) for one in drawn) / draws), exact=False)


def _part(space: Space, genome: Genome) -> float:
    """The share of a network that a raw genome counts for; the shares of one network add up to 1."""
    if space.problem(genome):
        return 0.0
    copies: Callable[[Genome], int] | None = getattr(space, "copies", None)
    return float(space.canonical(genome) == genome) if copies is None else 1 / copies(genome)
