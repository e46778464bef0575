"""The ledger of a search: workers take a candidate, report its progress and finish it.

There is no coordinator that could be killed. Each process holds one lock, brings its own replica of the
strategy up to date from the log and asks it. The next process finishes what a killed process left in the log.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effkeras.search.evaluation.settings import Candidate, Pruned
from effkeras.search.genomes import Genome, key
from effkeras.search.strategies.strategy import Strategy
from effkeras.search.trials.locks import is_alive, session_of
from effkeras.search.trials.records import Ask, Result, Trial, feedback_of
from effkeras.search.trials.store import Log
from effkeras.support.errors import EffkerasError
from effkeras.support.locks import locked


class Replica:
    """One process's copy of the strategy.

    `cost` names the cost that the strategy receives; None for none.
    """

    def __init__(self, strategy: Strategy, cost: str | None) -> None:
        self._strategy = strategy
        self._cost = cost
        self._asks = 0
        self._tells = 0

    def follow(self, log: Sequence[Trial]) -> None:
        """Replays all new asks and tells of the log, in order.

        Raises EffkerasError when the strategy proposes another genome than the log records.
        """
        tells = {trial.tell: trial for trial in log if trial.tell is not None}
        while True:
            if self._asks < len(log) and log[self._asks].after == self._tells:
                self._repeat(log[self._asks])
            elif self._tells in tells:
                self._strategy.tell(feedback_of(tells[self._tells], self._cost))
                self._tells += 1
            else:
                return

    def ask(self) -> Genome:
        """The next proposal; the caller must write it to the log at once."""
        self._asks += 1
        return self._strategy.ask()

    def _repeat(self, trial: Trial) -> None:
        genome = self.ask()
        if genome != trial.genome:
            raise EffkerasError(
                f"the strategy now proposes {key(genome)} for trial {trial.number}, where the store has "
                f"{key(trial.genome)}: another version of effkeras or numpy wrote it; use another --out"
            )


# A candidate fails after this many processes died while evaluating it in one session.
_MOST_DEATHS = 3
DIED = "the process died, probably out of memory"
# A search ends after this many proposals in a row that were all tried before.
_MOST_REPEATS = 200
# The number of finished candidates from which the share of failures can stop a search.
_FEWEST_JUDGED = 10


@dataclass(frozen=True, slots=True)
class Task:
    """A candidate for `owner` to evaluate: trial `number` of the search; `id` is its key in the database."""

    number: int
    id: int
    candidate: Candidate
    owner: str


@dataclass(frozen=True, slots=True)
class Limits:
    """When a search ends: after `trials` candidates. Failures count from trial `since` on.

    `session` names this run of the search; only deaths of its processes count against a candidate.
    """

    trials: int
    since: int = 0
    session: str = "here"


@dataclass(frozen=True, slots=True)
class Failures:
    """How many of the candidates failed, and the most frequent reason."""

    failed: int
    of: int
    reason: str
    times: int

    @property
    def are_most(self) -> bool:
        """Whether over half of the candidates failed, so that the search stops."""
        return self.of >= _FEWEST_JUDGED and 2 * self.failed > self.of


class Ledger:
    """One process's access to the log."""

    def __init__(
        self, log: Log, locks: Path, limits: Limits, replica: Callable[[], Replica], seed: int
    ) -> None:
        """`replica` makes a replica that has replayed nothing yet; `locks` is the lock folder."""
        self._log = log
        self._locks = locks
        self._limits = limits
        self._make = replica
        self._replica: Replica | None = None
        self._seed = seed
        self._dead_workers: set[str] = set()
        self._trials: list[Trial] | None = None

    def take(self, owner: str) -> Task | None:
        """A candidate for the owner: first one whose process died, then a new one; None when none is left."""
        with self._locked():
            self._finish_duplicates()
            while not failures(self._read(), self._limits.since).are_most:
                orphan = self._orphan()
                if orphan is not None:
                    task = self._adopt(orphan, owner)
                elif not ending(self._read(), self._limits):
                    task = self._propose(owner)
                else:
                    return None
                if task is not None:
                    return task
        return None

    def report(self, task: Task, step: int, reward: float) -> None:
        """Writes the current reward of a task; raises `Pruned` when the pruner ends it."""
        if self._log.report(task.id, step, float(reward)):
            raise Pruned

    def heartbeat(self, task: Task) -> None:
        """Writes a heartbeat of a task."""
        self._log.heartbeat(task.id)

    def finish(self, task: Task, result: Result) -> bool:
        """Writes a task's result; False when the task has another owner now."""
        with self._locked():
            trial = self._read()[task.number]
            if trial.is_finished or trial.owner != task.owner:
                return False
            self._finish(trial, result)
            self._finish_duplicates()
        return True

    def release_dead_worker(self, owner: str) -> None:
        """Makes the candidate of a dead owner available to others."""
        self._dead_workers.add(owner)

    def trials(self) -> list[Trial]:
        """All trials, in the order of the asks."""
        return self._log.read()

    def ending(self) -> str:
        """Why no further candidate is proposed; "" while the search goes on."""
        return ending(self._log.read(), self._limits)

    def gives_up(self, trials: Sequence[Trial]) -> bool:
        """Whether the search stops because most candidates failed."""
        return failures(trials, self._limits.since).are_most

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self._locks / "log.lock"):
            self._trials = None
            yield

    def _read(self) -> list[Trial]:
        """The trials; no other process changes them while this one holds the lock."""
        if self._trials is None:
            self._trials = self._log.read()
        return self._trials

    def _finish(self, trial: Trial, result: Result) -> None:
        self._log.finish(trial, result, _tells(self._read()))
        self._trials = None

    def _finish_duplicates(self) -> None:
        """Finishes the trials that waited for a trial of the same genome which is now finished."""
        while (found := _next_duplicate(self._read())) is not None:
            self._finish(*found)

    def _orphan(self) -> Trial | None:
        running = [trial for trial in self._read() if trial.state == "running"]
        alive = {trial.number: self._is_alive(trial.owner) for trial in running}
        silent = self._log.without_heartbeat(trial for trial in running if alive[trial.number] is None)
        return next((one for one in running if alive[one.number] is False or one in silent), None)

    def _is_alive(self, owner: str) -> bool | None:
        return False if owner in self._dead_workers else is_alive(self._locks, owner)

    def _adopt(self, trial: Trial, owner: str) -> Task | None:
        """Gives an orphan to the owner; None when it fails because too many processes died on it."""
        deaths = trial.deaths + (session_of(trial.owner) == self._limits.session)
        if deaths >= _MOST_DEATHS:
            self._finish(trial, Result(reason=DIED))
            self._finish_duplicates()
            return None
        self._log.adopt(trial, owner, deaths)
        self._trials = None
        return _task(replace(trial, owner=owner))

    def _propose(self, owner: str) -> Task | None:
        """Asks the strategy and writes the proposal; None when it was tried before."""
        trials = self._read()
        genome = self._ask(trials)
        same = next((trial for trial in trials if trial.genome == genome), None)
        ask = Ask(genome, seed_of(self._seed, genome), _tells(trials), owner)
        if same is not None:
            ask = replace(ask, same_as=same.number, result=same.result)
        self._log.add(ask, number=len(trials))
        self._trials = None
        trial = self._read()[-1]
        return _task(trial) if same is None else None

    def _ask(self, trials: Sequence[Trial]) -> Genome:
        # After an exception the replica may be ahead of the log, so the next call makes a new one.
        replica, self._replica = self._replica or self._make(), None
        replica.follow(trials)
        genome = replica.ask()
        self._replica = replica
        return genome


def seed_of(seed: int, genome: Genome) -> int:
    """The seed of a candidate's evaluation; it depends only on the search's seed and the genome."""
    return int(np.random.SeedSequence([seed, *genome]).generate_state(1)[0])


def failures(trials: Sequence[Trial], since: int) -> Failures:
    """Failures of the candidates from trial `since` on; reasons that differ only in numbers are equal."""
    judged = [trial for trial in trials[since:] if trial.is_finished and trial.is_candidate]
    reasons = [trial.result.reason for trial in judged if trial.result and trial.state == "fail"]
    kinds = Counter(map(_without_numbers, reasons)).most_common(1)
    kind, times = kinds[0] if kinds else ("", 0)
    reason = next((one for one in reasons if _without_numbers(one) == kind), "")
    return Failures(len(reasons), len(judged), reason, times)


def ending(trials: Sequence[Trial], limits: Limits) -> str:
    """Why no further candidate is proposed; "" while the search goes on."""
    if failures(trials, limits.since).are_most:
        return "most candidates fail"
    if sum(trial.is_candidate for trial in trials) >= limits.trials:
        return "all trials are made"
    if len(trials) >= _MOST_REPEATS and not any(trial.is_candidate for trial in trials[-_MOST_REPEATS:]):
        return f"the last {_MOST_REPEATS} proposals had all been tried before"
    return ""


def _tells(trials: Sequence[Trial]) -> int:
    return sum(trial.is_finished for trial in trials)


def _next_duplicate(trials: Sequence[Trial]) -> tuple[Trial, Result] | None:
    """The first waiting trial whose result is known, and that result."""
    waiting = [trial for trial in trials if trial.state == "waiting"]
    results = ((trial, trials[trial.same_as].result) for trial in waiting if trial.same_as is not None)
    return next(((trial, result) for trial, result in results if result is not None), None)


def _task(trial: Trial) -> Task:
    return Task(trial.number, trial.id, Candidate(trial.genome, trial.seed), trial.owner)


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)
