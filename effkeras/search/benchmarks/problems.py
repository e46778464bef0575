"""Problems with a known best reward, which need no training, and comparisons with random search on them."""

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

# Gives landscapes a separate random stream, as strategies are seeded with the same small numbers.
_STREAM = 0x1A9D


class Landscape:
    """A space with `genes` genes of `ops` choices; each genome has a value from 0 (worst) to 1 (best).

    The value is a scaled sum of random numbers for each choice, with standard deviation 1, and for each pair
    of neighboring choices, with standard deviation `pairs`. Raises EffkerasError without a gene or for fewer
    than two ops.
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
        """The genome itself, as no two are equivalent."""
        return genome

    def problem(self, genome: Genome) -> str:
        """Always "": all genomes are valid."""
        return ""

    def value(self, genome: Genome) -> float:
        """The value of a genome, 0 to 1."""
        return (self._raw(genome) - self._low) / (self._high - self._low)

    def _raw(self, genome: Genome) -> float:
        own = sum(row[op] for row, op in zip(self._own, genome, strict=True))
        pairs = zip(self._pair, genome[:-1], genome[1:], strict=True)
        return float(own + sum(table[left, right] for table, left, right in pairs))

    def _extreme(self, choose: Callable[..., np.intp]) -> Genome:
        """The genome with the largest (argmax) or smallest (argmin) sum, by the Viterbi algorithm."""
        totals, steps = self._own[0], []
        for own, pair in zip(self._own[1:], self._pair, strict=True):
            sums = totals[:, None] + pair + own
            steps.append([int(choose(column)) for column in sums.T])
            totals = np.array([column[step] for column, step in zip(sums.T, steps[-1], strict=True)])
        genome = [int(choose(totals))]
        for step in reversed(steps):
            genome.append(step[genome[-1]])
        return tuple(reversed(genome))


# Resamples of a bootstrap interval.
_RESAMPLES = 2000
# The two-sided 95 % point of the normal distribution.
_Z = 1.959964


class Problem(Protocol):
    """A space, the results of its genomes, and its best reward."""

    @property
    def space(self) -> Space:
        """The search space."""
        ...

    @property
    def best(self) -> float:
        """The largest reward of all genomes."""
        ...

    def evaluate(self, ask: int, genome: Genome) -> Feedback:
        """The result of a canonical genome."""
        ...


class LandscapeProblem:
    """A landscape as a problem: the rewards are its values, and the best is 1."""

    best = 1.0

    def __init__(self, seed: int) -> None:
        self.space = Landscape(seed)

    def evaluate(self, ask: int, genome: Genome) -> Feedback:
        """The value of the genome as reward."""
        return Feedback(ask, genome, self.space.value(genome))


class TableProblem:
    """A table of trained networks as a problem, with an objective; None means the accuracy."""

    def __init__(self, table: TableSpace, objective: Objective | None = None) -> None:
        self.space = table
        self.objective = objective or Objective()
        self.best = max(self._reward(genome) for genome in table.outcomes)

    def evaluate(self, ask: int, genome: Genome) -> Feedback:
        """The table's result for the genome."""
        outcome = self.space.outcome(genome)
        cost = outcome.costs.get(self.objective.cost) if self.objective.kind == "pareto" else None
        return Feedback(ask, genome, self._reward(genome), outcome.accuracy, cost)

    def _reward(self, genome: Genome) -> float:
        outcome = self.space.outcome(genome)
        return self.objective.reward(outcome.accuracy, outcome.costs)


class LargestFirst:
    """A baseline without search: tries the networks of a table from the most costly one down.

    Networks within the objective's target come first.
    """

    def __init__(self, problem: TableProblem, cost: str) -> None:
        outcomes, objective = problem.space.outcomes, problem.objective

        def rank(genome: Genome) -> tuple[bool, float]:
            costs = outcomes[genome].costs
            return objective.target is None or costs[objective.cost] <= objective.target, costs[cost]

        self._left = sorted(outcomes, key=rank)

    def ask(self) -> Genome:
        """The most costly remaining network; the last one again and again at the end."""
        return self._left.pop() if len(self._left) > 1 else self._left[0]

    def tell(self, feedback: Feedback) -> None:
        """Learns nothing."""


def best_found(problem: Problem, strategy: Strategy, evaluations: int) -> float:
    """The largest reward of `evaluations` evaluations, one after another."""
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
    """The largest reward that a named strategy finds with a seed."""
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
    """A strategy compared with random search over many seeds.

    `wins` is the share of seeds with a strictly larger reward; a tie is not a win. `regret` is the mean
    difference between the best possible reward and the one found.
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
    """The Wilson 95 % interval of a proportion (Wilson, JASA 1927)."""
    share, weight = successes / count, _Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def bootstrap(count: int, statistic: Callable[[np.ndarray], float]) -> Interval:
    """A statistic with its 95 % percentile bootstrap interval; the resamples are always the same.

    Args:
        count: the number of observations.
        statistic: computes the statistic from indices of observations, which may repeat; NaN if undefined.
    """
    draws = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    low, high = np.nanpercentile([statistic(draw) for draw in draws], [2.5, 97.5])
    return Interval(float(statistic(np.arange(count))), float(low), float(high))


def bootstrap_mean(values: np.ndarray) -> Interval:
    """The mean with its bootstrap interval."""
    return bootstrap(len(values), lambda drawn: values[drawn].mean())
