"""PNASNet's progressive search (Liu et al., arXiv:1712.00559) in any space.

PNASNet tries all cells of one block, learns to predict their accuracy, adds a block to the best in every
possible way, trains those that the predictor ranks first, and so on. This strategy varies one group of genes
after another; genes of later groups keep the choices of a base genome. A group has all genes with the same
text before the last dot ("stage2.kernel" and "stage2.expand", or the inputs and operations of one node of a
cell); a gene without a dot is a separate group. After the last group, the strategy starts again with the
first one, from the best genomes found.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.search.genomes import Gene, Genome, Space
from effkeras.search.strategies.strategy import Feedback, ProposedGenomes, register
from effkeras.support.errors import EffkerasError

# PNASNet's ensemble: five predictors, each fitted to four fifths of the results (arXiv:1712.00559, 4.2).
_MEMBERS = 5
# The kernel's value for genomes that differ in one gene; each further gene multiplies it by this factor.
_LIKENESS = 0.8
# Noise of rewards, as a share of their variance; it also keeps the equations solvable.
_NOISE = 0.01


class Surrogate:
    """Predicts rewards: the mean of a few kernel ridge regressions on genomes.

    The kernel is `_LIKENESS` to the power of the number of genes that differ. It is a product over genes,
    so it learns all interactions and weighs similar genomes most. The fit is exact, and fast for a few
    hundred results: PNASNet's recurrent and dense predictors need many more steps for the same ranking.
    """

    def __init__(
        self, genomes: Sequence[Genome], rewards: Sequence[float], random: np.random.Generator
    ) -> None:
        self._genomes = np.array(genomes)
        values = np.array(rewards)
        self._mean, self._spread = values.mean(), values.std() or 1.0
        self._weights = np.mean(
            [
                self._fitted((values - self._mean) / self._spread, part)
                for part in _parts(len(values), random)
            ],
            axis=0,
        )

    def predict(self, genomes: Sequence[Genome]) -> np.ndarray:
        """The predicted rewards, (genomes,)."""
        return self._mean + self._spread * (_alike(np.array(genomes), self._genomes) @ self._weights)

    def _fitted(self, values: np.ndarray, part: np.ndarray) -> np.ndarray:
        """The weights of all results in a regression on a part of them, 0 outside that part."""
        kernel = _alike(self._genomes[part], self._genomes[part])
        weights = np.zeros(len(values))
        weights[part] = np.linalg.solve(kernel + _NOISE * np.eye(len(part)), values[part])
        return weights


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return _LIKENESS ** (one[:, None] != other[None]).sum(axis=-1)


def _parts(count: int, random: np.random.Generator) -> list[np.ndarray]:
    """The results that each member is fitted to: all except every fifth, in a random order."""
    if count < 2 * _MEMBERS:
        return [np.arange(count)]
    order = random.permutation(count)
    return [np.delete(order, np.s_[member::_MEMBERS]) for member in range(_MEMBERS)]


# The most expansions of one genome by one group that are ranked; of more, this many are drawn.
_EXPANSIONS = 128
# The number of latest results that the surrogate is fitted to; its time grows with the cube of it.
_RESULTS = 500


@dataclass(frozen=True, slots=True)
class ProgressiveOptions:
    """Each group expands the best `beam` genomes; the `step` expansions ranked first are tried.

    The paper uses 256 for both, for 1,280 networks; the defaults suit a few hundred. Raises EffkerasError
    for numbers below 1.
    """

    beam: int = 8
    step: int = 4

    def __post_init__(self) -> None:
        if min(self.beam, self.step) < 1:
            raise EffkerasError(
                f"progressive: beam and step must be 1 or more, not {self.beam} and {self.step}"
            )


@register("progressive", "gene by gene, with a surrogate (PNASNet)", ProgressiveOptions)
class Progressive:
    """Varies genes group by group, starting from the best genomes so far; a surrogate ranks the variations.

    It never waits: while proposals are still running, it plans the next group from the available results.
    A failed candidate counts as the worst reward so far. No genome is tried twice while new ones are left.
    """

    def __init__(self, space: Space, seed: int, options: ProgressiveOptions) -> None:
        self._space, self._options = space, options
        self._random = np.random.default_rng(seed)
        self._proposed = ProposedGenomes(space, self._random)
        self._groups = itertools.cycle(groups(space.genes))
        self._rounds = len(groups(space.genes))
        self._queue: deque[Genome] = deque([self._proposed.drawn()])
        self._base = self._queue[0]
        self._rewards: dict[Genome, float | None] = {}

    def ask(self) -> Genome:
        """The base genome, then the genomes ranked first; a random draw when no group yields new ones."""
        for _ in range(self._rounds):
            if self._queue:
                break
            self._queue.extend(self._planned(next(self._groups)))
        return self._proposed.add(self._queue.popleft() if self._queue else self._proposed.drawn())

    def tell(self, feedback: Feedback) -> None:
        """Stores the reward for the surrogate."""
        self._rewards[feedback.genome] = feedback.reward

    def _planned(self, group: tuple[int, ...]) -> list[Genome]:
        fresh = {
            made: None  # a set in order
            for genome in self._beam()
            for made in self._expanded(genome, group)
            if made not in self._proposed
        }
        return self._ranked(list(fresh))[: self._options.step]

    def _beam(self) -> list[Genome]:
        done = [(reward, genome) for genome, reward in self._rewards.items() if reward is not None]
        best = sorted(done, key=lambda one: one[0], reverse=True)[: self._options.beam]
        return [genome for _, genome in best] or [self._base]

    def _expanded(self, genome: Genome, group: tuple[int, ...]) -> Iterator[Genome]:
        """The valid genomes that differ from `genome` in the genes of the group."""
        sizes = [len(self._space.genes[gene].choices) for gene in group]
        for choices in self._choices(sizes):
            changed = list(genome)
            for gene, choice in zip(group, choices, strict=True):
                changed[gene] = choice
            if not self._space.problem(tuple(changed)):
                yield self._space.canonical(tuple(changed))

    def _choices(self, sizes: list[int]) -> Iterator[tuple[int, ...]]:
        if np.prod(sizes, dtype=float) <= _EXPANSIONS:
            return itertools.product(*map(range, sizes))
        return (tuple(map(int, row)) for row in self._random.integers(sizes, size=(_EXPANSIONS, len(sizes))))

    def _ranked(self, genomes: list[Genome]) -> list[Genome]:
        """Sorts genomes by predicted reward, highest first; randomly before there are results."""
        order = self._random.permutation(len(genomes))
        results = list(self._rewards.items())[-_RESULTS:]
        rewards = [reward for _, reward in results if reward is not None]
        if rewards and genomes:
            filled = [min(rewards) if reward is None else reward for _, reward in results]
            surrogate = Surrogate([genome for genome, _ in results], filled, self._random)
            order = order[np.argsort(-surrogate.predict(genomes)[order], kind="stable")]
        return [genomes[int(index)] for index in order]


def groups(genes: tuple[Gene, ...]) -> list[tuple[int, ...]]:
    """The positions of the genes of each group, in the order of the groups' first genes."""
    found: dict[str, list[int]] = {}
    for position, gene in enumerate(genes):
        found.setdefault(gene.name.rpartition(".")[0] or f".{gene.name}", []).append(position)
    return [tuple(positions) for positions in found.values()]
