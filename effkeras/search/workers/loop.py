"""One worker's work: take a candidate, evaluate it, write down what it came to; until none is left."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from effkeras.console import note
from effkeras.search.evaluation.protocol import Evaluator, Outcome, Pruned
from effkeras.search.store.ledger import Task
from effkeras.search.store.log import HEARTBEAT
from effkeras.search.store.records import Result

_LONGEST_REASON = 300


class Objective(Protocol):
    """What a search maximises."""

    @property
    def kind(self) -> str:
        """Its name; "pareto" keeps accuracy and cost apart."""
        ...

    @property
    def cost(self) -> str:
        """The name of the cost that counts."""
        ...

    def reward(self, accuracy: float, costs: Mapping[str, float]) -> float:
        """Accuracy and costs as one figure."""
        ...

    def problem(self, costs: Mapping[str, float]) -> str:
        """Which limit the costs break; "" when none."""
        ...


class Desk(Protocol):
    """The ledger as a worker sees it, near or far."""

    def take(self, owner: str) -> Task | None:
        """A candidate, or None when none is left."""
        ...

    def report(self, task: Task, step: int, reward: float) -> None:
        """Writes the reward that a task has so far; raises `Pruned` when it is not worth more."""
        ...

    def beat(self, task: Task) -> None:
        """A sign of life."""
        ...

    def finish(self, task: Task, result: Result) -> bool:
        """Writes a task's result; False when the task is another's by now."""
        ...


def work(desk: Desk, evaluator: Evaluator, objective: Objective, owner: str) -> None:
    """Evaluates candidates until none is left."""
    while (task := desk.take(owner)) is not None:
        attend(task, desk, evaluator, objective)


def attend(task: Task, desk: Desk, evaluator: Evaluator, objective: Objective) -> None:
    """Evaluates one candidate."""
    with _beating(desk, task):
        result = _evaluated(task, desk, evaluator, objective)
    if not desk.finish(task, result):
        note(f"trial {task.number} was given to another worker meanwhile; this result is dropped")


def _evaluated(task: Task, desk: Desk, evaluator: Evaluator, objective: Objective) -> Result:
    """What the evaluation came to; whatever it raises is this candidate's failure."""
    begin = time.monotonic()
    try:
        result = _judged(task, desk, evaluator, objective)
    except Exception as error:
        traceback.print_exc()
        result = Result(reason=_line(error))
    return replace(result, seconds=time.monotonic() - begin)


def _judged(task: Task, desk: Desk, evaluator: Evaluator, objective: Objective) -> Result:
    """One over a limit is not evaluated; one that is pruned counts with its last accuracy."""
    costs = evaluator.costs(task.candidate)
    if problem := objective.problem(costs):
        return Result(costs=costs, reason=problem)
    listener = _Listener(desk, task, objective, costs)
    try:
        return _rewarded(evaluator(task.candidate, listener), costs, objective)
    except Pruned:
        return replace(_rewarded(Outcome(listener.accuracy), costs, objective), pruned=True)


class _Listener:
    """The evaluation's `Report`, which remembers the last accuracy and tells the ledger the reward.

    By accuracy, a pruner would take small networks for ones that have fallen behind.
    """

    def __init__(self, desk: Desk, task: Task, objective: Objective, costs: Mapping[str, float]) -> None:
        self._desk, self._task = desk, task
        self._objective, self._costs = objective, costs
        self.accuracy = math.nan

    def __call__(self, step: int, accuracy: float) -> None:
        self.accuracy = float(accuracy)
        if not math.isfinite(self.accuracy):
            return
        reward = float(self._objective.reward(self.accuracy, self._costs))
        if math.isfinite(reward):
            self._desk.report(self._task, step, reward)


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
def _beating(desk: Desk, task: Task) -> Iterator[None]:
    """Signs of life while the body runs."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            with contextlib.suppress(Exception):  # the next one will do
                desk.beat(task)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
