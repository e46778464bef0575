"""Problems whose answers are known without training, and strategies compared with random search on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from effkeras.search.benchmarks.table_space import TableSpace
from effkeras.search.genomes import Gene, Genome, Space
from effkeras.search.objectives import Objective
from effkeras.search.strategies.strategy import Feedback, Strategy, make_strategy
from effkeras.support.errors import EffkerasError

# A stream of random numbers of its own: strategies are seeded with the same small numbers.
_STREAM = 0x1A9D


class Landscape:
    """A space of `genes` x `ops` genomes, each with a value from 0 (the worst) to 1 (the best).

    `pairs` is the standard deviation of a pair's number; that of a gene's own is 1. Raises EffkerasError
    without two ops to choose from.
    """

    def __init__(self, seed: int, genes: int = 7, ops: int = 6, pairs: float = 0.5) -> None:
        if genes < 1 or ops < 2:
            raise EffkerasError(f"a landscape needs a gene and two ops, not {genes} and {ops}")
        random = np.random.default_rng([_STREAM, seed])
        self.genes = tuple(Gene(f"layer{index}", tuple(range(ops))) for index in range(genes))
        self._own = random.normal(size=(genes, ops))
        self._pair = pairs * random.normal(size=(genes - 1, ops, ops))
        self.best = self._extreme(np.argmax)
        self._low, self._high = self._raw(self._extreme(np.argmin)), self._raw(self.best)

    def canonical(self, genome: Genome) -> Genome:
        """The genome: no two describe the same."""
        return genome

    def problem(self, genome: Genome) -> str:
        """ "": all genomes are valid."""
        return ""

    def value(self, genome: Genome) -> float:
        """How good a genome is, 0 to 1."""
        return (self._raw(genome) - self._low) / (self._high - self._low)

    def _raw(self, genome: Genome) -> float:
        own = sum(row[op] for row, op in zip(self._own, genome, strict=True))
        pairs = zip(self._pair, genome[:-1], genome[1:], strict=True)
        return float(own + sum(table[left, right] for table, left, right in pairs))

    def _extreme(self, choose: Callable[..., np.intp]) -> Genome:
        """The genome whose sum is the largest (argmax) or smallest (argmin): Viterbi's algorithm."""
        reach, steps = self._own[0], []
        for own, pair in zip(self._own[1:], self._pair, strict=True):
            sums = reach[:, None] + pair + own
            steps.append([int(choose(column)) for column in sums.T])
            reach = np.array([column[step] for column, step in zip(sums.T, steps[-1], strict=True)])
        genome = [int(choose(reach))]
        for step in reversed(steps):
            genome.append(step[genome[-1]])
        return tuple(reversed(genome))


# Resamples behind a bootstrap interval.
_RESAMPLES = 2000
# The two-sided 95 % point of the normal distribution.
_Z = 1.959964


class Problem(Protocol):
    """A space, what its genomes are worth, and the most that one is."""

    @property
    def space(self) -> Space:
        """What can be chosen."""
        ...

    @property
    def best(self) -> float:
        """The largest reward of all genomes."""
        ...

    def evaluate(self, ask: int, genome: Genome) -> Feedback:
        """The result of a canonical genome."""
        ...


class LandscapeProblem:
    """A landscape as a problem: rewards are its values, the best is 1."""

    best = 1.0

    def __init__(self, seed: int) -> None:
        self.space = Landscape(seed)

    def evaluate(self, ask: int, genome: Genome) -> Feedback:
        """Its value."""
        return Feedback(ask, genome, self.space.value(genome))


class TableProblem:
    """A table of trained networks as a problem, with an objective; None is the accuracy."""

    def __init__(self, table: TableSpace, objective: Objective | None = None) -> None:
        self.space = table
        self.objective = objective or Objective()
        self.best = max(self._reward(genome) for genome in table.outcomes)

    def evaluate(self, ask: int, genome: Genome) -> Feedback:
        """What the table says of it."""
        outcome = self.space.outcome(genome)
        cost = outcome.costs.get(self.objective.cost) if self.objective.kind == "pareto" else None
        return Feedback(ask, genome, self._reward(genome), outcome.accuracy, cost)

    def _reward(self, genome: Genome) -> float:
        outcome = self.space.outcome(genome)
        return self.objective.reward(outcome.accuracy, outcome.costs)


class LargestFirst:
    """No search at all: tries the networks of a table from the most costly one down.

    Those that keep its objective's target come first.
    """

    def __init__(self, problem: TableProblem, cost: str) -> None:
        outcomes, objective = problem.space.outcomes, problem.objective

        def rank(genome: Genome) -> tuple[bool, float]:
            costs = outcomes[genome].costs
            return objective.target is None or costs[objective.cost] <= objective.target, costs[cost]

        self._left = sorted(outcomes, key=rank)

    def ask(self) -> Genome:
        """The most costly of those left; the cheapest of all at the end."""
        return self._left.pop() if len(self._left) > 1 else self._left[0]

    def tell(self, feedback: Feedback) -> None:
        """Learns nothing."""


def best_found(problem: Problem, strategy: Strategy, evaluations: int) -> float:
    """The largest reward among so many evaluations, one after another."""
    best = -math.inf
    for ask in range(evaluations):
        feedback = problem.evaluate(ask, strategy.ask())
        strategy.tell(feedback)
        if feedback.reward is not None:
            best = max(best, feedback.reward)
    return best


def play(
    name: str, problem: Problem, seed: int, evaluations: int, options: Mapping[str, Any] | None = None
) -> float:
    """The largest reward that a strategy, by its name, finds under a seed."""
    return best_found(problem, make_strategy(name, problem.space, seed, options), evaluations)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def to_row(self) -> list[float]:
        """[value, low, high], to four digits."""
        return [round(number, 4) for number in (self.value, self.low, self.high)]


@dataclass(frozen=True, slots=True)
class Score:
    """A strategy beside random search over many seeds.

    `wins` is the share of seeds in which it found a strictly larger reward: a tie is no win. `regret` is
    the mean distance of what it found from the best there is.
    """

    wins: Interval
    ties: int
    regret: Interval


def score(found: Sequence[float], random: Sequence[float], best: Sequence[float]) -> Score:
    """Compares rewards seed by seed."""
    ours, theirs = np.asarray(found), np.asarray(random)
    return Score(
        wins=wilson(int((ours > theirs).sum()), len(ours)),
        ties=int((ours == theirs).sum()),
        regret=bootstrap_mean(np.asarray(best) - ours),
    )


def wilson(successes: int, count: int) -> Interval:
    """Wilson's 95 % interval of a share (Wilson, JASA 1927)."""
    share, weight = successes / count, _Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def bootstrap(count: int, statistic: Callable[[np.ndarray], float]) -> Interval:
    """A statistic with the 95 % percentile bootstrap interval, always of the same resamples.

    Args:
        count: of what it is of.
        statistic: for the indices of what is drawn, once or several times; NaN where it is not defined.
    """
    draws = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    low, high = np.nanpercentile([statistic(draw) for draw in draws], [2.5, 97.5])
    return Interval(float(statistic(np.arange(count))), float(low), float(high))


def bootstrap_mean(values: np.ndarray) -> Interval:
    """The mean with its interval."""
    return bootstrap(len(values), lambda drawn: values[drawn].mean())
