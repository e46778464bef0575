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

# Optuna's names; "waiting" is a trial whose genome another worker is evaluating already.
State = Literal["running", "waiting", "complete", "pruned", "fail"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an evaluation.

    `reward` is None for a candidate that failed, and `reason` says why. One that was `pruned` has the last
    accuracy that it reported. `seconds` is how long the evaluation took.
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
        """As JSON; figures that JSON cannot hold are left out."""
        table = to_table(self)
        for name in ("costs", "metrics"):
            figures = {key: float(value) for key, value in table.pop(name, {}).items()}
            table[name] = {key: value for key, value in figures.items() if math.isfinite(value)}
        return table


def result_of(table: Table) -> Result:
    """The result that `to_table` wrote."""
    return to_record(Result, table, "a result")


@dataclass(frozen=True, slots=True)
class Ask:
    """What the store records of an ask; one with a result is finished at once, as the next tell.

    `after` counts the tells before the ask.
    """

    genome: Genome
    seed: int
    after: int
    owner: str = ""
    same_as: int | None = None
    result: Result | None = None

    @property
    def state(self) -> State:
        """Running, waiting for the trial of the same genome, or finished."""
        if self.result is not None:
            return self.result.state
        return "running" if self.same_as is None else "waiting"

    def attributes(self) -> dict[str, Any]:
        """The user attributes of the trial."""
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
        """The directions of the values, as Optuna spells them."""
        return ["maximize", "minimize"] if self.is_front else ["maximize"]

    def values(self, result: Result) -> list[float]:
        """The values of a trial; none for one that failed."""
        if result.reward is None:
            return []
        if not self.is_front:
            return [result.reward]
        return [float(result.accuracy or 0.0), float(result.costs[self.cost])]


@dataclass(frozen=True, slots=True)
class Trial:
    """One ask of the search, with its tell once it is finished.

    Attributes:
        number: counts the asks from 0.
        id: its key in the database.
        seed: of the evaluation.
        after: tells that came before the ask.
        told: which tell it was, from 0; None while it is not finished.
        owner: who evaluates it.
        deaths: processes that died while they evaluated it.
        same_as: the earlier trial of the same genome, whose result this one has.
        result: there once it is finished.
    """

    number: int
    id: int
    genome: Genome
    seed: int
    state: State
    after: int
    owner: str = ""
    deaths: int = 0
    told: int | None = None
    same_as: int | None = None
    result: Result | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the result is final."""
        return self.told is not None

    @property
    def is_candidate(self) -> bool:
        """Whether it is evaluated itself."""
        return self.same_as is None


def feedback_of(trial: Trial, cost: str | None) -> Feedback:
    """What a strategy is told of a finished trial; of its costs the one named."""
    result = trial.result or Result()
    if result.reward is None:
        return Feedback(trial.number, trial.genome, None)
    known = None if cost is None else result.costs.get(cost)
    return Feedback(trial.number, trial.genome, result.reward, result.accuracy, known)


def best_of(trials: list[Trial]) -> Trial | None:
    """The finished trial of the highest reward, the first told of equals; pruned ones do not count."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.is_candidate]
    return max(complete, key=lambda trial: (_reward(trial), -(trial.told or 0)), default=None)


def front_of(trials: list[Trial], cost: str) -> list[Trial]:
    """The finished trials that no other beats in both accuracy and a cost, cheapest first; no pruned ones."""
    done = [trial for trial in trials if trial.state == "complete" and trial.is_candidate]
    results = [trial.result or Result() for trial in done]
    return [done[index] for index in pareto_front((one.accuracy or 0.0, one.costs[cost]) for one in results)]


def _reward(trial: Trial) -> float:
    return trial.result.reward if trial.result and trial.result.reward is not None else -math.inf
