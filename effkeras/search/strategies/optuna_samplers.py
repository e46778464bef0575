"""Samplers of Optuna as strategies.

TPE is Bergstra et al., NeurIPS 2011; NSGA-II is Deb et al., IEEE TEC 2002.

A strategy holds an in-memory study with a seeded sampler, which is as deterministic as every other strategy:
it is not stored, but rebuilt by making the same calls again.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.search.genomes import Genome, Space
from effkeras.search.strategies.strategy import Feedback, ProposedGenomes, register
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    import optuna

# Proposals that are invalid or were tried before, until a genome is drawn instead.
_PROPOSALS = 20


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a study is asked, and what it is told.

    `sampler` makes the sampler, `directions` say what is good, and `values` what is told of a success.
    `failure` is the name of the state of a candidate that failed: FAIL is ignored by samplers, PRUNED is
    bad news to TPE.
    """

    sampler: Callable[[], Any]
    directions: Sequence[str]
    values: Callable[[Feedback], Sequence[float]]
    failure: str


class OptunaStrategy:
    """Ask and tell around a study.

    A proposal that is invalid or was tried before is reported to the study as failed, and proposed anew;
    after some of them a genome is drawn instead. The sampler learns from the genome as it proposed it, not
    from its canonical form: it chose those values. A result without a proposal of one's own teaches
    nothing.
    """

    def __init__(self, space: Space, seed: int, sampling: Sampling) -> None:
        self._space, self._sampling = space, sampling
        self._proposed = ProposedGenomes(space, np.random.default_rng(seed))
        with _silent() as optuna:
            self._study = optuna.create_study(
                sampler=sampling.sampler(), directions=list(sampling.directions)
            )
            self._failed = optuna.trial.TrialState.FAIL
            self._failure = optuna.trial.TrialState[sampling.failure]
            self._genes = {
                f"{position:04}": optuna.distributions.CategoricalDistribution(range(len(gene.choices)))
                for position, gene in enumerate(space.genes)
            }
        self._under_way: dict[int, Any] = {}
        self._asked = 0

    def ask(self) -> Genome:
        """What the sampler proposes."""
        with _silent():
            trial, genome = self._propose()
        self._under_way[self._asked] = trial
        self._asked += 1
        return self._proposed.add(genome)

    def tell(self, feedback: Feedback) -> None:
        """Ends the trial of the proposal."""
        trial = self._under_way.pop(feedback.ask, None)
        if trial is None:
            return
        with _silent():
            if feedback.reward is None:
                self._study.tell(trial, state=self._failure)
            else:
                self._study.tell(trial, list(self._sampling.values(feedback)))

    def _propose(self) -> tuple[optuna.Trial, Genome]:
        for _ in range(_PROPOSALS):
            trial = self._study.ask(self._genes)
            genome = tuple(trial.params[name] for name in self._genes)
            if not self._space.problem(genome):
                made = self._space.canonical(genome)
                if made not in self._proposed or self._proposed.is_all:
                    return trial, made
            self._study.tell(trial, state=self._failed)
        genome = self._proposed.drawn()
        self._study.enqueue_trial(dict(zip(self._genes, genome, strict=True)))
        return self._study.ask(self._genes), genome


@contextlib.contextmanager
def _silent() -> Iterator[Any]:
    """Optuna without its log lines and its warnings of what is experimental; as they were, afterwards."""
    optuna = import_optuna()
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(level)


def import_optuna() -> Any:
    """The library; EffkerasError says how to install it."""
    try:
        import optuna
    except ImportError as error:
        raise EffkerasError(
            'this strategy needs Optuna, which is not installed: pip install "effkeras[search]"'
        ) from error
    return optuna


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


@register("tpe", "tree-structured Parzen estimator (Optuna)", TpeOptions)
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
        values=lambda feedback: [feedback.reward or 0.0],
        failure="PRUNED",
    )
    return OptunaStrategy(space, seed, sampling)


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


@register("nsga2", "NSGA-II: accuracy against cost (Optuna)", Nsga2Options, takes_front=True)
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


def _goals(feedback: Feedback) -> list[float]:
    if feedback.accuracy is None or feedback.cost is None:
        return [feedback.reward or 0.0, 0.0]
    return [feedback.accuracy, feedback.cost]
