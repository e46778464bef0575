"""Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), Optuna's TPESampler."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.errors import EffkerasError
from effkeras.search.genomes import Space
from effkeras.search.strategies.optuna_study import OptunaStrategy, Sampling, import_optuna


@dataclass(frozen=True, slots=True)
class TpeOptions:
    """Optuna's defaults: `startup` genomes are random; then the best of `candidates` draws is proposed.

    `together` models all genes jointly (Optuna's multivariate). Raises EffkerasError below 1.
    """

    startup: int = 10
    candidates: int = 24
    together: bool = True

    def __post_init__(self) -> None:
        if min(self.startup, self.candidates) < 1:
            raise EffkerasError(
                f"tpe: startup and candidates must be 1 or more, not {self.startup} and {self.candidates}"
            )


def tpe(space: Space, seed: int, options: TpeOptions) -> OptunaStrategy:
    """The strategy; it maximises the reward, and takes candidates that failed for bad ones.

    Proposals under way count as bad until they are told (Optuna's constant liar), so that parallel workers
    do not all try the same.
    """
    optuna = import_optuna()
    sampling = Sampling(
        sampler=lambda: optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=options.startup,
            n_ei_candidates=options.candidates,
            multivariate=options.together,
            constant_liar=True,
        ),
        directions=["maximize"],
        values=lambda told: [told.reward or 0.0],
        failure="PRUNED",
    )
    return OptunaStrategy(space, seed, sampling)
