"""Workers: each takes a candidate from the ledger, evaluates it and records the result, until none remain."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Protocol

from effkeras.search.evaluation.settings import Evaluator, Outcome, Pruned
from effkeras.search.trials.job import Objective, SearchJob, locks_of
from effkeras.search.trials.ledger import Ledger, Limits, Task
from effkeras.search.trials.locks import claimed
from effkeras.search.trials.records import Result
from effkeras.search.trials.store import HEARTBEAT
from effkeras.support.console import note

_LONGEST_REASON = 300


class LedgerAccess(Protocol):
    """The ledger as a worker uses it, in this process or on another machine."""

    def take(self, owner: str) -> Task | None:
        """A candidate, or None when none is left."""
        ...

    def report(self, task: Task, step: int, reward: float) -> None:
        """Writes the current reward of a task; raises `Pruned` when the pruner ends it."""
        ...

    def heartbeat(self, task: Task) -> None:
        """Writes a heartbeat."""
        ...

    def finish(self, task: Task, result: Result) -> bool:
        """Writes a task's result; False when the task has another owner now."""
        ...


def work(ledger: LedgerAccess, evaluator: Evaluator, objective: Objective, owner: str) -> None:
    """Evaluates candidates until none is left."""
    while (task := ledger.take(owner)) is not None:
        evaluate_task(task, ledger, evaluator, objective)


def evaluate_task(task: Task, ledger: LedgerAccess, evaluator: Evaluator, objective: Objective) -> None:
    """Evaluates one candidate."""
    with _heartbeats(ledger, task):
        result = _evaluated(task, ledger, evaluator, objective)
    if not ledger.finish(task, result):
        note(f"trial {task.number} was given to another worker meanwhile; this result is dropped")


def _evaluated(task: Task, ledger: LedgerAccess, evaluator: Evaluator, objective: Objective) -> Result:
    """The result of the evaluation; any exception makes it a failure of this candidate."""
    begin = time.monotonic()
    try:
        result = _judged(task, ledger, evaluator, objective)
    except Exception as error:
        traceback.print_exc()
        result = Result(reason=_line(error))
    return replace(result, seconds=time.monotonic() - begin)


def _judged(task: Task, ledger: LedgerAccess, evaluator: Evaluator, objective: Objective) -> Result:
    """Evaluates a candidate within the limits; a pruned one gets its last reported accuracy."""
    costs = evaluator.costs(task.candidate)
    if problem := objective.problem(costs):
        return Result(costs=costs, reason=problem)
    listener = _Listener(ledger, task, objective, costs)
    try:
        return _rewarded(evaluator(task.candidate, listener), costs, objective)
    except Pruned:
        return replace(_rewarded(Outcome(listener.accuracy), costs, objective), pruned=True)


class _Listener:
    """The evaluation's `Report`: keeps the last accuracy and reports the reward to the ledger.

    It reports rewards because a pruner that compares accuracies would end small networks too often.
    """

    def __init__(
        self, ledger: LedgerAccess, task: Task, objective: Objective, costs: Mapping[str, float]
    ) -> None:
        self._ledger, self._task = ledger, task
        self._objective, self._costs = objective, costs
        self.accuracy = math.nan

    def __call__(self, step: int, accuracy: float) -> None:
        self.accuracy = float(accuracy)
        if not math.isfinite(self.accuracy):
            return
        reward = float(self._objective.reward(self.accuracy, self._costs))
        if math.isfinite(reward):
            self._ledger.report(self._task, step, reward)


def _rewarded(outcome: Outcome, costs: Mapping[str, float], objective: Objective) -> Result:
    accuracy = float(outcome.accuracy)
    if not math.isfinite(accuracy):
        return Result(reason=f"the accuracy is {accuracy}")
    reward = float(objective.reward(accuracy, costs))
    if not math.isfinite(reward):
        return Result(reason=f"the reward is {reward}")
    return Result(reward, accuracy, costs, outcome.metrics)


def _line(error: Exception) -> str:
    """An error as one line of bounded length."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}"[:_LONGEST_REASON] if text else name


@contextlib.contextmanager
def _heartbeats(ledger: LedgerAccess, task: Task) -> Iterator[None]:
    """Writes heartbeats while the body runs."""
    done = threading.Event()

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT):
            with contextlib.suppress(Exception):  # the next one will do
                ledger.heartbeat(task)

    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Assignment:
    """The input of a pool of workers.

    `keep` are open files that worker processes on this machine inherit: the search's lock is released when
    the last of these processes has ended.
    """

    job: SearchJob
    limits: Limits
    ledger: Ledger
    keep: tuple[IO[str], ...] = ()


class WorkerPool(Protocol):
    """The workers of a search, on this machine or on a cluster."""

    def start(self, assignment: Assignment) -> None:
        """Starts the workers."""
        ...

    def step(self) -> bool:
        """Waits a moment and restarts workers that died; False when all work is done."""
        ...

    def close(self) -> None:
        """Kills the workers; the next run evaluates their candidates again."""
        ...


class InProcess:
    """The search's own process as its only worker, for notebooks and tests: one candidate per `step`."""

    def __init__(self) -> None:
        self._kept = contextlib.ExitStack()

    def start(self, assignment: Assignment) -> None:
        """Makes the evaluator."""
        self._assignment = assignment
        self._evaluator = assignment.job.evaluation()
        self._owner = self._kept.enter_context(
            claimed(locks_of(assignment.job.out), assignment.limits.session)
        )

    def step(self) -> bool:
        """Evaluates a candidate; False when none is left."""
        task = self._assignment.ledger.take(self._owner)
        if task is not None:
            evaluate_task(task, self._assignment.ledger, self._evaluator, self._assignment.job.objective)
        return task is not None

    def close(self) -> None:
        """Releases this process's name."""
        self._kept.close()


# The number of deaths per worker, with no trial finished in between, at which a search gives up.
_MOST = 5


@dataclass(slots=True)
class DeathCount:
    """Counts deaths of any of `workers` while the number of `finished` trials does not grow.

    The limit grows with the number of workers, because a lost machine takes all its workers at once.
    """

    finished: int
    workers: int = 1
    count: int = 0

    def are_too_many(self, finished: int) -> bool:
        """Counts one more death, after `finished` trials in all; returns whether to give up."""
        self.count = 0 if finished > self.finished else self.count + 1
        self.finished = finished
        return self.count >= _MOST * self.workers
