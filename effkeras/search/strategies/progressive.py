"""PNASNet's progressive search (Liu et al., arXiv:1712.00559) in any space.

PNASNet tries all cells of one block, learns to predict their accuracy, adds a block to the best in every
possible way, trains those that the predictor ranks first, and so on. Here, genes are opened up a group
after another; those not open yet are as in a base genome. A group is what belongs together by name:
all genes with the same text before the last dot ("stage2.kernel" and "stage2.expand", or the inputs and
operations of one node of a cell); a gene without a dot is a group of its own. When all groups were
opened, they are gone through again, from the best genomes found.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.search.genomes import Gene, Genome, Space
from effkeras.search.strategies.protocol import Told
from effkeras.search.strategies.surrogate import Surrogate
from effkeras.search.strategies.tried import Tried

# Expansions of one genome by one group that are ranked; of more, so many are drawn.
_EXPANSIONS = 128
# Results that the surrogate learns from, the latest ones: its time grows with their cube.
_RESULTS = 500


@dataclass(frozen=True, slots=True)
class ProgressiveOptions:
    """`beam` genomes are expanded by each group, and the `step` expansions ranked first are tried.

    The paper uses 256 for both, for 1,280 networks; the defaults are for some hundred. Raises EffkerasError
    below 1.
    """

    beam: int = 8
    step: int = 4

    def __post_init__(self) -> None:
        if min(self.beam, self.step) < 1:
            raise EffkerasError(
                f"progressive: beam and step must be 1 or more, not {self.beam} and {self.step}"
            )


class Progressive:
    """Opens genes group by group from the best genomes so far, as a surrogate ranks them.

    It never waits: when proposals are still under way, the next group is planned with the results there are.
    A candidate that failed counts as the worst reward so far. What was tried is not tried again.
    """

    def __init__(self, space: Space, seed: int, options: ProgressiveOptions) -> None:
        self._space, self._options = space, options
        self._random = np.random.default_rng(seed)
        self._tried = Tried(space, self._random)
        self._groups = itertools.cycle(groups(space.genes))
        self._rounds = len(groups(space.genes))
        self._queue: deque[Genome] = deque([self._tried.drawn()])
        self._base = self._queue[0]
        self._rewards: dict[Genome, float | None] = {}

    def ask(self) -> Genome:
        """The base genome, then what the surrogate ranks first; a draw when nothing new is left there."""
        for _ in range(self._rounds):
            if self._queue:
                break
            self._queue.extend(self._planned(next(self._groups)))
        return self._tried.add(self._queue.popleft() if self._queue else self._tried.drawn())

    def tell(self, told: Told) -> None:
        """Remembers the reward for the surrogate."""
        self._rewards[told.genome] = told.reward

    def _planned(self, group: tuple[int, ...]) -> list[Genome]:
        fresh = {
            made: None  # a set in order
            for genome in self._beam()
            for made in self._expanded(genome, group)
            if made not in self._tried
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
        """The most promising first; in a random order before there are results."""
        order = self._random.permutation(len(genomes))
        results = list(self._rewards.items())[-_RESULTS:]
        rewards = [reward for _, reward in results if reward is not None]
        if rewards and genomes:
            filled = [min(rewards) if reward is None else reward for _, reward in results]
            surrogate = Surrogate([genome for genome, _ in results], filled, self._random)
            order = order[np.argsort(-surrogate.predict(genomes)[order], kind="stable")]
        return [genomes[int(index)] for index in order]


def groups(genes: tuple[Gene, ...]) -> list[tuple[int, ...]]:
    """The positions of the genes that are opened up together, in the order of the groups' first genes."""
    found: dict[str, list[int]] = {}
    for position, gene in enumerate(genes):
        found.setdefault(gene.name.rpartition(".")[0] or f".{gene.name}", []).append(position)
    return [tuple(positions) for positions in found.values()]
