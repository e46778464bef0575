"""A sampler of Optuna's as a strategy: an in-memory study that is asked and told.

A study with a seeded sampler is a deterministic state machine like every other strategy, so it is not
stored: it is rebuilt by making the calls again.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.search.genomes import Genome, Space
from effkeras.search.strategies.protocol import Told
from effkeras.search.strategies.tried import Tried

if TYPE_CHECKING:
    import optuna

# Proposals that are invalid or were tried before, until a genome is drawn instead.
_PROPOSALS = 20


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a study is asked and told.

    `sampler` makes the sampler, `directions` say what is good, and `values` what is told of a success.
    `failure` is the name of the state of a candidate that failed: FAIL is ignored by samplers, PRUNED is
    bad news to TPE.
    """

    sampler: Callable[[], Any]
    directions: Sequence[str]
    values: Callable[[Told], Sequence[float]]
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
        self._tried = Tried(space, np.random.default_rng(seed))
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
            trial, genome = self._proposed()
        self._under_way[self._asked] = trial
        self._asked += 1
        return self._tried.add(genome)

    def tell(self, told: Told) -> None:
        """Ends the trial of the proposal."""
        trial = self._under_way.pop(told.ask, None)
        if trial is None:
            return
        with _silent():
            if told.reward is None:
                self._study.tell(trial, state=self._failure)
            else:
                self._study.tell(trial, list(self._sampling.values(told)))

    def _proposed(self) -> tuple[optuna.Trial, Genome]:
        for _ in range(_PROPOSALS):
            trial = self._study.ask(self._genes)
            genome = tuple(trial.params[name] for name in self._genes)
            if not self._space.problem(genome):
                made = self._space.canonical(genome)
                if made not in self._tried or self._tried.is_all:
                    return trial, made
            self._study.tell(trial, state=self._failed)
        genome = self._tried.drawn()
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
