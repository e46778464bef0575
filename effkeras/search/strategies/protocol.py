"""What every strategy is: `ask` for a genome, `tell` what became of it.

A strategy draws from one generator seeded once and looks at nothing but what it was told, so the same
calls in the same order make the same proposals. The store keeps that order: a search resumes by making
the calls again, and every worker holds a copy that it brings up to date in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from effkeras.search.genomes import Genome


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a proposal.

    `ask` counts the calls of `ask` from 0; results may come in another order than the proposals.
    `reward` is None for a candidate that failed. `accuracy` and `cost` are for strategies that weigh them
    against each other themselves; None where it failed. The cost is told for a Pareto front only: any other
    reward has weighed it already, or leaves it out.
    """

    ask: int
    genome: Genome
    reward: float | None
    accuracy: float | None = None
    cost: float | None = None


class Strategy(Protocol):
    """Proposes genomes; any number may be under way at once."""

    def ask(self) -> Genome:
        """The next genome to try: valid and canonical. One that was tried before is allowed."""
        ...

    def tell(self, told: Told) -> None:
        """Learns from one result."""
        ...
