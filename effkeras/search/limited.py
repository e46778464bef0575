"""A space of models without those that cost too much, so that no trial is spent on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from effkeras.definition import ModelSpec
from effkeras.search.genomes import Gene, Genome, Space
from effkeras.tables import Table


class Definitions(Space, Protocol):
    """A space whose genomes become definitions."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def digest(self) -> str:
        """What it lets one choose, as a short word."""
        ...

    @property
    def table(self) -> Mapping[str, Any]:
        """What its file says."""
        ...

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition of a candidate."""
        ...


@dataclass(frozen=True, slots=True)
class Limited:
    """A space whose genomes cost at most so much.

    `limits` are by the name of the cost, `costs` counts those that it is given of a definition; they must not
    need TensorFlow or a measurement, as every genome that is drawn or changed is counted.
    """

    space: Definitions
    limits: Mapping[str, float]
    costs: Callable[[ModelSpec, list[str]], Mapping[str, float]]
    _known: dict[Genome, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """All decisions."""
        return self.space.genes

    @property
    def name(self) -> str:
        """The space's."""
        return self.space.name

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
        made = self.space.canonical(genome)
        if made not in self._known:
            self._known[made] = self._excess(made)
        return self._known[made]

    def _excess(self, genome: Genome) -> str:
        costs = self.costs(self.space.spec(genome), list(self.limits))
        over = [name for name, limit in self.limits.items() if costs[name] > limit]
        return "; ".join(
            f"{name} {costs[name]:,.0f} is over the limit of {self.limits[name]:,.0f}" for name in over
        )
