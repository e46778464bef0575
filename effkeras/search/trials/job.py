"""Search jobs: the settings of a search, pickled for every worker."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from effkeras.data.classes import Classes
from effkeras.data.contents import Contents
from effkeras.search.evaluation.settings import Evaluator
from effkeras.search.genomes import Choice, Space
from effkeras.search.strategies.strategy import STRATEGIES, Strategy, make_strategy
from effkeras.search.trials.ledger import Ledger, Limits, Replica
from effkeras.search.trials.records import StudySpec
from effkeras.search.trials.store import Log, create_log
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder

Pruner = Literal["none", "halving", "hyperband"]
PRUNERS: tuple[Pruner, ...] = ("none", "halving", "hyperband")


class Objective(Protocol):
    """The objective that a search maximizes."""

    @property
    def kind(self) -> str:
        """Its name; "pareto" keeps accuracy and cost apart."""
        ...

    @property
    def cost(self) -> str:
        """The name of the cost in the objective."""
        ...

    def reward(self, accuracy: float, costs: Mapping[str, float]) -> float:
        """Accuracy and costs as one number."""
        ...

    def problem(self, costs: Mapping[str, float]) -> str:
        """Which limits the costs exceed; "" for none."""
        ...


class StrategyMaker(Protocol):
    """Makes equal copies of a strategy from its name and options."""

    @property
    def name(self) -> str:
        """The strategy's name."""
        ...

    @property
    def options(self) -> Mapping[str, Choice]:
        """The strategy's options."""
        ...

    def make(self, space: Space, seed: int) -> Strategy:
        """A new strategy, before its first ask."""
        ...


@dataclass(frozen=True, slots=True)
class NamedStrategy:
    """A registered strategy of `effkeras.search.strategies`, by name."""

    name: str
    options: Mapping[str, Choice] = field(default_factory=dict)

    def make(self, space: Space, seed: int) -> Strategy:
        """A new strategy; raises EffkerasError for an unknown name or option."""
        return make_strategy(self.name, space, seed, self.options)


@dataclass(frozen=True, slots=True)
class SearchJob:
    """The settings of a search.

    The job is pickled for the workers, so all its classes must be defined in importable modules.

    Attributes:
        evaluation: makes an evaluator; called once by each worker. If it is a dataclass, its fields
            identify it in `search.toml`.
        trials: the number of candidates to evaluate; a later run may ask for more.
        pruner: ends evaluations early, by the rewards reported so far. With several workers its decisions
            depend on their speed, so only a search with one worker is reproducible.
        classes: the classes of the data, for the best definition.
        data: the contents of the split train; a search goes on only with the same.
    """

    space: Space
    strategy: StrategyMaker
    objective: Objective
    evaluation: Callable[[], Evaluator]
    trials: int
    out: Path
    seed: int = 0
    pruner: Pruner = "none"
    classes: Classes | None = None
    data: Contents | None = None

    @property
    def is_front(self) -> bool:
        """Whether accuracy and cost are kept apart."""
        return self.objective.kind == "pareto"


def check_job(job: SearchJob) -> None:
    """Raises EffkerasError for an invalid job; makes the strategy once to check its options."""
    if job.trials < 1:
        raise EffkerasError(f"trials must be at least 1, not {job.trials}")
    if job.pruner not in PRUNERS:
        raise EffkerasError(f"there is no pruner {job.pruner!r}; known: {', '.join(PRUNERS)}")
    if job.is_front and job.pruner != "none":
        raise EffkerasError("a pruner needs one reward, and a Pareto front has two; leave one of them out")
    job.strategy.make(job.space, job.seed)
    if job.is_front and isinstance(job.strategy, NamedStrategy):
        _check_front(job.strategy.name)


def _check_front(strategy: str) -> None:
    if not STRATEGIES.get(strategy).takes_front:
        able = [name for name, kind in STRATEGIES.entries().items() if kind.takes_front]
        raise EffkerasError(
            f"the strategy {strategy} maximises one reward, and a Pareto front has two: choose one of "
            f"{', '.join(able)}"
        )


def space_name(space: Space) -> str:
    """The space's name for display."""
    return str(getattr(space, "name", type(space).__name__))


def space_digest(space: Space) -> str:
    """The space's own digest, or a hash of its genes and choices."""
    own = getattr(space, "digest", "")
    return str(own) or hashlib.sha256(repr(space.genes).encode()).hexdigest()[:16]


def locks_of(out: Path) -> Path:
    """The lock folder of a search."""
    return out / "locks"


def create_store(job: SearchJob) -> int:
    """Creates the store unless it exists; returns its number of trials."""
    make_folder(locks_of(job.out))
    create_log(job.out, _study_spec(job))
    with contextlib.closing(Log(job.out, _study_spec(job))) as log:
        return len(log.read())


def open_ledger(job: SearchJob, limits: Limits) -> Ledger:
    """Opens the ledger of a search whose store exists."""
    log = Log(job.out, _study_spec(job))
    return Ledger(log, locks_of(job.out), limits, lambda: replica(job), job.seed)


def replica(job: SearchJob) -> Replica:
    """A new copy of the strategy; only a Pareto search passes it a cost."""
    return Replica(job.strategy.make(job.space, job.seed), job.objective.cost if job.is_front else None)


def _study_spec(job: SearchJob) -> StudySpec:
    name = f"{space_name(job.space)}, {job.strategy.name}, seed {job.seed}"
    return StudySpec(job.space, name, job.objective.cost, job.is_front, job.pruner)
