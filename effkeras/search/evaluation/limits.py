"""A space without the models that break limits on costs, so that no trial is spent on them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from effkeras.data.classes import Classes
from effkeras.definitions.definition import ModelSpec
from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.settings import ArtifactSettings
from effkeras.search.genomes import Gene, Genome, check_space, sample
from effkeras.search.spaces.reading import ModelSpace
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table

# Draws of which the cheapest is made cheaper still.
_STARTS = 10
# So many times over the limit, the cheapest network found says that there is none within.
_HOPELESS = 1.2


@dataclass(frozen=True, slots=True)
class LimitedSpace:
    """A space whose genomes keep limits on their costs.

    `limits` are by the name of the cost, and only of costs that need neither TensorFlow nor a measurement, as
    every genome that is drawn or changed is counted: with `classes`, those of the data, where they are given.
    `artifact` tells which figures of a block table are read. `start` is a genome within the limits: where few
    are, the next draws may find none.
    """

    space: ModelSpace
    limits: Mapping[str, float]
    classes: Classes | None = None
    artifact: ArtifactSettings = field(default_factory=ArtifactSettings)
    start: Genome | None = None
    _known: dict[Genome, Mapping[str, float]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """All decisions."""
        return self.space.genes

    @property
    def name(self) -> str:
        """The space's."""
        return self.space.name

    @property
    def source(self) -> str:
        """What the space is read again by."""
        return self.space.source

    @property
    def digest(self) -> str:
        """The space's; the limits are the objective's to tell apart."""
        return self.space.digest

    @property
    def table(self) -> Table:
        """What the space's file says."""
        return dict(self.space.table)

    def canonical(self, genome: Genome) -> Genome:
        """The genome that stands for all those of the same network."""
        return self.space.canonical(genome)

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition of a candidate."""
        return self.space.spec(genome)

    def problem(self, genome: Genome) -> str:
        """Why the genome describes no network, or one that costs too much."""
        plain = self.space.problem(genome)
        if plain:
            return plain
        costs = self.costs(genome)
        over = [name for name, limit in self.limits.items() if costs[name] > limit]
        return "; ".join(
            f"{name} {costs[name]:,.10g} is over the limit of {self.limits[name]:,.10g}" for name in over
        )

    def costs(self, genome: Genome) -> Mapping[str, float]:
        """The limited costs of a valid genome of the space."""
        made = self.space.canonical(genome)
        if made not in self._known:
            spec = self.space.spec(made)
            fitting = spec if self.classes is None else self.classes.given_to(spec)
            self._known[made] = cost_of(fitting, self.limits, self.artifact)
        return self._known[made]

    def excess(self, genome: Genome) -> float:
        """The largest of the costs of a valid genome of the space over their limits; up to 1 is within."""
        costs = self.costs(genome)
        return max(costs[name] / limit for name, limit in self.limits.items())


def check_limits(limited: LimitedSpace) -> LimitedSpace:
    """The space with a genome within the limits to start from.

    Raises EffkerasError when no network is found that keeps the limits, and says what the cheapest costs.

    One is looked for gene by gene. When that ends far over the limits, there is none; when it ends near
    them, draws decide. What keeps them must be drawn now and then, or no strategy could start.
    """
    best = cheapest(limited)
    why = ""
    if limited.excess(best) <= _HOPELESS:
        try:
            return replace(limited, start=check_space(limited))
        except EffkerasError:
            within = limited.excess(best) <= 1
            why = "; networks within the limits are too rare to be drawn" if within else ""
    costs = limited.costs(best)
    found = " and ".join(f"{name} {costs[name]:,.10g}" for name in limited.limits)
    limits = " and ".join(f"{limit:,.10g}" for limit in limited.limits.values())
    raise EffkerasError(
        f"no network of {limited.name} keeps the limits: the cheapest found has {found}, and the "
        f"{'limits are' if len(limited.limits) > 1 else 'limit is'} {limits}{why}; allow more"
    )


def cheapest(limited: LimitedSpace) -> Genome:
    """The cheapest network found, in rounds over all genes; or the first that keeps the limits.

    Rounds end when another one that gains as much as the last would not reach the limits.
    """
    random = np.random.default_rng(0)
    draws = [sample(limited.space, random) for _ in range(_STARTS)]
    best = min(draws, key=limited.excess)
    before = after = limited.excess(best)
    while after > 1:
        best = _cheaper(limited, best)
        before, after = after, limited.excess(best)
        if after * (after / before) > 1:
            break
    return best


def _cheaper(limited: LimitedSpace, genome: Genome) -> Genome:
    """The genome with each gene in turn as it costs least; ends within the limits."""
    for index, gene in enumerate(limited.genes):
        if limited.excess(genome) <= 1:
            break
        ways = ((*genome[:index], choice, *genome[index + 1 :]) for choice in range(len(gene.choices)))
        genome = min(
            itertools.chain([genome], (way for way in ways if not limited.space.problem(way))),
            key=limited.excess,
        )
    return genome
