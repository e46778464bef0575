"""What was proposed before: training the same network twice tells nothing new."""

from __future__ import annotations

import numpy as np

from effkeras.search.genomes import Genome, Space, all_genomes, mutate, raw_count, sample

# Draws before what is left is listed, or a repeat is accepted.
_DRAWS = 200
# Genomes that are listed to find those left.
_LISTED = 50_000
# Mutations of so many genes, up to the space's, before one that was tried is accepted.
_MUTATIONS = 30


class Tried:
    """The genomes proposed so far, and new ones beside them."""

    def __init__(self, space: Space, random: np.random.Generator) -> None:
        self._space = space
        self._random = random
        self._genomes: set[Genome] = set()
        self._left: list[Genome] | None = None
        self._is_all = False

    def __contains__(self, genome: Genome) -> bool:
        return genome in self._genomes

    def add(self, genome: Genome) -> Genome:
        """Remembers a canonical genome, and returns it."""
        self._genomes.add(genome)
        return genome

    @property
    def is_all(self) -> bool:
        """Whether nothing new is known to be left; found out by `drawn`, in a space that can be listed."""
        return self._is_all

    def drawn(self) -> Genome:
        """A genome drawn from those not tried, as long as there are any; then from all."""
        for _ in range(_DRAWS if self._left is None else 0):
            if (genome := sample(self._space, self._random)) not in self:
                return genome
        left = self._untried()
        return left[int(self._random.integers(len(left)))] if left else sample(self._space, self._random)

    def mutated(self, parent: Genome) -> Genome:
        """A mutation of one gene that was not tried; of more genes when all those were."""
        genome = parent
        for genes in range(1, len(self._space.genes) + 1):
            for _ in range(_MUTATIONS):
                genome = mutate(self._space, parent, self._random, genes)
                if genome not in self or self._is_all:
                    return genome
                if genome == parent:  # no change of so many genes leads anywhere
                    break
        return genome

    def _untried(self) -> list[Genome]:
        """All genomes that were not tried; [] in a space too large to list."""
        is_listable = raw_count(self._space) <= _LISTED
        if self._left is None:
            self._left = list(all_genomes(self._space)) if is_listable else []
        self._left = [genome for genome in self._left if genome not in self]
        self._is_all = is_listable and not self._left
        return self._left
