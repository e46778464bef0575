"""Workers on the machines of a Ray cluster.

The store stays on the machine where the search was started, behind one actor. Workers are Ray tasks that ask
the actor for candidates. When a machine dies, other workers evaluate its candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from effkeras.search.evaluation.settings import Pruned
from effkeras.search.trials.job import SearchJob, open_ledger
from effkeras.search.trials.ledger import Limits, Task
from effkeras.search.trials.locks import new_name
from effkeras.search.trials.processes import WorkerOrder, pickle_order
from effkeras.search.trials.records import Result
from effkeras.search.trials.workers import Assignment, DeathCount, work
from effkeras.support.errors import EffkerasError
from effkeras.support.ray_cluster import answer, connect, last_line, load_ray, this_machine

# Seconds between two checks of the workers.
_PAUSE = 0.2
# The host name of all owners on the cluster; no machine has it, so only heartbeats show who is alive.
_HOST = "ray"


class Counter:
    """The actor that owns the store: a ledger for workers on any machine."""

    def __init__(self, job: SearchJob, limits: Limits) -> None:
        self._ledger = open_ledger(job, limits)

    def take(self, owner: str) -> Task | None:
        """A candidate, or None when none is left."""
        return self._ledger.take(owner)

    def report(self, task: Task, step: int, reward: float) -> bool:
        """Writes the current reward of a task; returns whether the task is pruned."""
        try:
            self._ledger.report(task, step, reward)
        except Pruned:
            return True
        return False

    def heartbeat(self, task: Task) -> None:
        """Writes a heartbeat."""
        self._ledger.heartbeat(task)

    def finish(self, task: Task, result: Result) -> bool:
        """Writes a task's result; False when the task has another owner now."""
        return self._ledger.finish(task, result)

    def release_dead_worker(self, owner: str) -> None:
        """Makes the candidate of a dead worker available to others."""
        self._ledger.release_dead_worker(owner)


@dataclass(frozen=True, slots=True)
class RemoteLedger:
    """The ledger as a worker on the cluster sees it."""

    counter: Any

    def take(self, owner: str) -> Task | None:
        """A candidate, or None when none is left."""
        task: Task | None = answer(self.counter.take.remote(owner))
        return task

    def report(self, task: Task, step: int, reward: float) -> None:
        """Writes the current reward of a task; raises `Pruned` when the pruner ends it."""
        if answer(self.counter.report.remote(task, step, reward)):
            raise Pruned

    def heartbeat(self, task: Task) -> None:
        """Writes a heartbeat."""
        self.counter.heartbeat.remote(task)

    def finish(self, task: Task, result: Result) -> bool:
        """Writes a task's result; False when the task has another owner now."""
        return bool(answer(self.counter.finish.remote(task, result)))


def work_remotely(counter: Any, order: WorkerOrder, owner: str) -> None:
    """Evaluates candidates on the cluster until none is left."""
    work(RemoteLedger(counter), order.job.evaluation(), order.job.objective, owner)


@dataclass(slots=True)
class Cluster:
    """Workers on a Ray cluster: `count` of them, or as many as fit with `threads` cores each."""

    address: str
    count: int | None = None
    threads: int = 1
    _assignment: Assignment = field(init=False)
    _counter: Any = field(init=False)
    _owners: dict[Any, str] = field(default_factory=dict, init=False)
    _death_count: DeathCount = field(init=False)

    def start(self, assignment: Assignment) -> None:
        """Connects and starts the workers; raises EffkerasError when no cluster answers."""
        ray = load_ray()
        pickle_order(WorkerOrder(assignment.job, assignment.limits))
        self._assignment = assignment
        shares = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(self.threads))
        connect(self.address, shares)
        keeper = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Counter)
        self._counter = keeper.options(scheduling_strategy=this_machine()).remote(
            assignment.job, assignment.limits
        )
        cores = int(ray.cluster_resources().get("CPU", 1))
        workers = self.count or max(1, cores // self.threads)
        self._death_count = DeathCount(self._finished(), workers)
        for _ in range(workers):
            self._launch()

    def step(self) -> bool:
        """Waits a moment and replaces workers that have died; False when all work is done."""
        ended, _ = load_ray().wait(list(self._owners), num_returns=1, timeout=_PAUSE)
        for task in ended:
            self._ended(task, self._owners.pop(task))
        return not self._is_over()

    def close(self) -> None:
        """Ends the workers and disconnects from the cluster."""
        ray = load_ray()
        for task in self._owners:
            ray.cancel(task, force=True)
        self._owners.clear()
        ray.shutdown()

    def _launch(self) -> None:
        ray = load_ray()
        owner = new_name(self._assignment.limits.session, host=_HOST)
        worker = ray.remote(num_cpus=self.threads, max_retries=0, scheduling_strategy="SPREAD")(work_remotely)
        order = WorkerOrder(self._assignment.job, self._assignment.limits)
        self._owners[worker.remote(self._counter, order, owner)] = owner

    def _ended(self, task: Any, owner: str) -> None:
        from ray.exceptions import RayError, RayTaskError

        try:
            answer(task)
        except RayTaskError as error:  # the worker raised it: a new worker would raise it too
            raise EffkerasError(f"the workers cannot work: {last_line(error)}") from error
        except RayError as error:  # its process or its machine died
            answer(self._counter.release_dead_worker.remote(owner))
            if self._death_count.are_too_many(self._finished()):
                raise EffkerasError(f"the workers keep dying: {last_line(error)}") from error
        if not self._is_over():
            self._launch()

    def _finished(self) -> int:
        return sum(trial.is_finished for trial in self._assignment.ledger.trials())

    def _is_over(self) -> bool:
        trials = self._assignment.ledger.trials()
        done = all(trial.is_finished for trial in trials) and bool(self._assignment.ledger.ending())
        return done or self._assignment.ledger.gives_up(trials)
