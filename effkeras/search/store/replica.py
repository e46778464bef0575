"""A strategy that follows the log of asks and tells."""

from __future__ import annotations

from collections.abc import Sequence

from effkeras.errors import EffkerasError
from effkeras.search.genomes import Genome, key
from effkeras.search.store.records import Trial, told
from effkeras.search.strategies.protocol import Strategy


class Replica:
    """One process's copy of the strategy.

    `cost` names the cost that the strategy is told; None for none.
    """

    def __init__(self, strategy: Strategy, cost: str | None) -> None:
        self._strategy = strategy
        self._cost = cost
        self._asks = 0
        self._tells = 0

    def follow(self, log: Sequence[Trial]) -> None:
        """Makes all asks and tells that are new in the log, in their order.

        Raises EffkerasError when the strategy now proposes something else than the log says.
        """
        tells = {trial.told: trial for trial in log if trial.told is not None}
        while True:
            if self._asks < len(log) and log[self._asks].after == self._tells:
                self._repeat(log[self._asks])
            elif self._tells in tells:
                self._strategy.tell(told(tells[self._tells], self._cost))
                self._tells += 1
            else:
                return

    def ask(self) -> Genome:
        """The next proposal, to be written to the log at once."""
        self._asks += 1
        return self._strategy.ask()

    def _repeat(self, trial: Trial) -> None:
        genome = self.ask()
        if genome != trial.genome:
            raise EffkerasError(
                f"the strategy now proposes {key(genome)} for trial {trial.number}, where the store has "
                f"{key(trial.genome)}: another version of effkeras or numpy wrote it; use another --out"
            )
