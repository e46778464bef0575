"""Runs a search: a job, a pool of workers, and a folder whose files stay complete after any kill."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from effkeras.search.folder import Publisher, identify
from effkeras.search.trials.job import SearchJob, check_job, create_store, locks_of, open_ledger
from effkeras.search.trials.ledger import Limits, ending, failures
from effkeras.search.trials.locks import remove_stale, try_lock
from effkeras.search.trials.records import Trial, best_of
from effkeras.search.trials.workers import Assignment, WorkerPool
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder

# Seconds to wait until the processes of a killed search have ended.
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a search.

    `finished` counts candidates, including failed and pruned ones. `repeats` counts proposals that were
    tried before; they are not evaluated again. `ending` says why no more candidates are proposed. `reason`
    is the most frequent reason of failures.
    """

    trials: int
    finished: int
    failed: int
    pruned: int
    running: int
    repeats: int
    best: Trial | None
    ending: str = ""
    reason: str = ""


class MostFailedError(EffkerasError):
    """Most candidates of a search failed."""


def search(job: SearchJob, pool: WorkerPool, watch: Callable[[Status], None] = lambda status: None) -> Status:
    """Runs a search until all its trials are finished; continues an earlier run in the same folder.

    The folder then holds the store `search.db` (an Optuna study), `results.jsonl` with a row for each
    finished trial and, for a space of models, the best definition `best.toml`. A Pareto search also writes
    a definition for each network of its front, `front/TRIAL.toml`. All files stay complete when a process
    is killed.

    Args:
        job: what to search.
        pool: the workers that evaluate candidates.
        watch: called a few times a second with the status of the search.

    Raises:
        EffkerasError: the folder holds another search, or one that is still running; the strategy, the
            space or the workers are unusable. `MostFailedError`: over half of at least 10 candidates failed.
    """
    check_job(job)
    with _search_lock(job) as lock:
        identify(job)
        limits = Limits(job.trials, create_store(job), uuid.uuid4().hex[:8])
        assignment = Assignment(job, limits, open_ledger(job, limits), (lock,))
        try:
            _run_workers(assignment, pool, watch)
        finally:
            pool.close()
        return _concluded(assignment)


def status_of(trials: list[Trial], limits: Limits) -> Status:
    """The status of a search from its trials."""
    candidates = [trial for trial in trials if trial.is_candidate]
    return Status(
        trials=limits.trials,
        finished=sum(trial.is_finished for trial in candidates),
        failed=sum(trial.state == "fail" for trial in candidates),
        pruned=sum(trial.state == "pruned" for trial in candidates),
        running=sum(trial.state == "running" for trial in candidates),
        repeats=len(trials) - len(candidates),
        best=best_of(trials),
        ending=ending(trials, limits),
        reason=failures(trials, 0).reason,
    )


def _run_workers(assignment: Assignment, pool: WorkerPool, watch: Callable[[Status], None]) -> None:
    publisher = Publisher(assignment.job)
    pool.start(assignment)
    goes_on = True
    while goes_on:
        goes_on = pool.step()
        trials = assignment.ledger.trials()
        publisher.publish(trials)
        watch(status_of(trials, assignment.limits))


def _concluded(assignment: Assignment) -> Status:
    trials = assignment.ledger.trials()
    found = failures(trials, assignment.limits.since)
    if found.are_most:
        raise MostFailedError(
            f"{found.failed} of {found.of} candidates failed, most often ({found.times}x) with: "
            f"{found.reason}; see {assignment.job.out / 'logs'}; "
            f"the same command continues with other candidates"
        )
    return status_of(trials, assignment.limits)


@contextlib.contextmanager
def _search_lock(job: SearchJob) -> Iterator[IO[str]]:
    """Holds the search's lock; waits a moment for the processes of a killed search to end."""
    path = make_folder(locks_of(job.out)) / "search.lock"
    until = time.monotonic() + _PATIENCE
    while (lock := try_lock(path)) is None:
        if time.monotonic() > until:
            raise EffkerasError(f"a search is under way in {job.out}; wait for it, or give another --out")
        time.sleep(0.05)
    with lock:
        remove_stale(path.parent)
        yield lock
