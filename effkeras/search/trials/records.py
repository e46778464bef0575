"""Records of a search: asks, results, trials and the study that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from effkeras.search.genomes import Genome, Space, key
from effkeras.search.objectives import pareto_front
from effkeras.search.strategies.strategy import Feedback
from effkeras.support.tables import Table, to_record, to_table

# Optuna's names; a trial is "waiting" while another worker evaluates the same genome.
State = Literal["running", "waiting", "complete", "pruned", "fail"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an evaluation.

    `reward` is None for a candidate that failed, and `reason` says why. A `pruned` candidate has the last
    accuracy that it reported. `seconds` is the duration of the evaluation.
    """

    reward: float | None = None
    accuracy: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""
    pruned: bool = False

    @property
    def state(self) -> State:
        """The state of a trial with this result."""
        if self.reward is None:
            return "fail"
        return "pruned" if self.pruned else "complete"

    def to_table(self) -> Table:
        """The result as a JSON table, without NaN or infinite values."""
        table = to_table(self)
        for name in ("costs", "metrics"):
            figures = {key: float(value) for key, value in table.pop(name, {}).items()}
            table[name] = {key: value for key, value in figures.items() if math.isfinite(value)}
        return table


def result_of(table: Table) -> Result:
    """The result from a table that `to_table` wrote."""
    return to_record(Result, table, "a result")


@dataclass(frozen=True, slots=True)
class Ask:
    """An ask as the store records it; an ask with a result is also the next tell.

    `after` is the number of tells before the ask.
    """

    genome: Genome
    seed: int
    after: int
    owner: str = ""
    same_as: int | None = None
    result: Result | None = None

    @property
    def state(self) -> State:
        """Running, waiting for a trial of the same genome, or finished."""
        if self.result is not None:
            return self.result.state
        return "running" if self.same_as is None else "waiting"

    def attributes(self) -> dict[str, Any]:
        """The trial's user attributes in Optuna."""
        facts = {"genome": key(self.genome), "seed": self.seed, "after": self.after}
        if self.same_as is not None:
            return facts | {"same_as": self.same_as}
        return facts | {"owner": self.owner}


@dataclass(frozen=True, slots=True)
class StudySpec:
    """The study of a search: a trial's value is its reward or, for a Pareto front, accuracy and `cost`."""

    space: Space
    name: str
    cost: str
    is_front: bool = False
    pruner: str = "none"

    @property
    def directions(self) -> list[str]:
        """The directions of the values, as Optuna names them."""
        return ["maximize", "minimize"] if self.is_front else ["maximize"]

    def values(self, result: Result) -> list[float]:
        """The values of a trial; an empty list for a failed one."""
        if result.reward is None:
            return []
        if not self.is_front:
            return [result.reward]
        return [float(result.accuracy or 0.0), float(result.costs[self.cost])]


@dataclass(frozen=True, slots=True)
class Trial:
    """One ask of the search and, once it is finished, its tell.

    Attributes:
        number: the number of the ask, from 0.
        id: the key in the database.
        seed: the seed of the evaluation.
        after: the number of tells before the ask.
        tell: the number of the tell, from 0; None until the trial is finished.
        owner: the worker that evaluates it.
        deaths: the number of processes that died while evaluating it.
        same_as: the earlier trial of the same genome, whose result this trial copies.
        result: None until the trial is finished.
    """

    number: int
    id: int
    genome: Genome
    seed: int
    state: State
    after: int
    owner: str = ""
    deaths: int = 0
    tell: int | None = None
    same_as: int | None = None
    result: Result | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the result is final."""
        return self.tell is not None

    @property
    def is_candidate(self) -> bool:
        """Whether the trial is evaluated and does not copy another trial's result."""
        return self.same_as is None


def feedback_of(trial: Trial, cost: str | None) -> Feedback:
    """The feedback of a finished trial for a strategy, with the named cost only."""
    result = trial.result or Result()
    if result.reward is None:
        return Feedback(trial.number, trial.genome, None)
    known = None if cost is None else result.costs.get(cost)
    return Feedback(trial.number, trial.genome, result.reward, result.accuracy, known)


def best_of(trials: list[Trial]) -> Trial | None:
    """The complete trial with the highest reward, the earliest of equal ones; pruned ones do not count."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.is_candidate]
    return max(complete, key=lambda trial: (_reward(trial), -(trial.tell or 0)), default=None)


def front_of(trials: list[Trial], cost: str) -> list[Trial]:
    """The complete trials on the Pareto front of accuracy and a cost, cheapest first; no pruned ones."""
    done = [trial for trial in trials if trial.state == "complete" and trial.is_candidate]
    results = [trial.result or Result() for trial in done]
    return [done[index] for index in pareto_front((one.accuracy or 0.0, one.costs[cost]) for one in results)]


def _reward(trial: Trial) -> float:
    return trial.result.reward if trial.result and trial.result.reward is not None else -math.inf
