"""Optuna's samplers as strategies.

TPE is Bergstra et al., NeurIPS 2011; NSGA-II is Deb et al., IEEE TEC 2002.

A strategy holds an in-memory study with a seeded sampler, which is as deterministic as the other strategies:
the study is not stored, but rebuilt by replaying the same calls.
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

# After this many proposals that are invalid or were tried before, a genome is drawn at random.
_PROPOSALS = 20


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a strategy uses a study.

    `sampler` makes the sampler. `directions` are the study's directions, and `values` gives the values of a
    successful candidate. `failure` names the state of a failed one: samplers ignore FAIL, and TPE treats
    PRUNED as bad.
    """

    sampler: Callable[[], Any]
    directions: Sequence[str]
    values: Callable[[Feedback], Sequence[float]]
    failure: str


class OptunaStrategy:
    """A strategy that asks and tells an Optuna study.

    It reports a proposal that is invalid or was tried before to the study as failed, and asks again; after
    several of them it draws a random genome. The sampler learns from the genome that it proposed, not from
    its canonical form, because it chose those values. Results of other proposals are ignored.
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
        """The sampler's next proposal."""
        with _silent():
            trial, genome = self._propose()
        self._under_way[self._asked] = trial
        self._asked += 1
        return self._proposed.add(genome)

    def tell(self, feedback: Feedback) -> None:
        """Tells the study the result of the proposal."""
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
    """Silences Optuna's log and its warnings about experimental features within the block."""
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
    """Imports Optuna; raises EffkerasError, with the command to install it, when it is missing."""
    try:
        import optuna
    except ImportError as error:
        raise EffkerasError(
            'this strategy needs Optuna, which is not installed: pip install "effkeras[search]"'
        ) from error
    return optuna


@dataclass(frozen=True, slots=True)
class TpeOptions:
    """Optuna's defaults: `startup` genomes are random, then the best of `candidates` draws is proposed.

    `together` models all genes jointly (Optuna's multivariate). Raises EffkerasError for numbers below 1.
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
    """Makes the strategy; it maximizes the reward and treats failed candidates as bad ones.

    Running proposals count as bad until their results arrive (Optuna's constant liar), so that parallel
    workers do not all try the same.
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
    """A generation has `population` genomes; `swap` is the probability that crossover swaps a gene.

    Optuna's population of 50 is for thousands of trials; the default suits a few hundred. Raises
    EffkerasError for a population below 2, and unless 0 <= swap <= 1.
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
    """Makes the strategy; failed candidates never become parents.

    Without a cost, which only a Pareto front provides, it maximizes the reward alone.
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
