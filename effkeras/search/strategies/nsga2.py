"""NSGA-II (Deb et al., IEEE TEC 2002), Optuna's NSGAIISampler: accuracy against cost, for a Pareto front."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.errors import EffkerasError
from effkeras.search.genomes import Space
from effkeras.search.strategies.optuna_study import OptunaStrategy, Sampling, import_optuna
from effkeras.search.strategies.protocol import Told


@dataclass(frozen=True, slots=True)
class Nsga2Options:
    """`population` genomes are a generation; a gene comes from either parent with probability `swap`.

    Optuna's population of 50 is for thousands of trials; the default is for some hundred. Raises
    EffkerasError below 2, and unless 0 <= swap <= 1.
    """

    population: int = 10
    swap: float = 0.5

    def __post_init__(self) -> None:
        if self.population < 2:
            raise EffkerasError(f"nsga2: population must be 2 or more, not {self.population}")
        if not 0 <= self.swap <= 1:
            raise EffkerasError(f"nsga2: swap must be from 0 to 1, not {self.swap}")


def nsga2(space: Space, seed: int, options: Nsga2Options) -> OptunaStrategy:
    """The strategy; candidates that failed never become parents.

    Where no cost is told, as by every objective but a Pareto front, it maximises the reward alone.
    """
    optuna = import_optuna()
    sampling = Sampling(
        sampler=lambda: optuna.samplers.NSGAIISampler(
            seed=seed, population_size=options.population, swapping_prob=options.swap
        ),
        directions=["maximize", "minimize"],
        values=_goals,
        failure="FAIL",
    )
    return OptunaStrategy(space, seed, sampling)


def _goals(told: Told) -> list[float]:
    if told.accuracy is None or told.cost is None:
        return [told.reward or 0.0, 0.0]
    return [told.accuracy, told.cost]
