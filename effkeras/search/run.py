"""Runs a search: a job, a pool of workers, and a folder whose files stay complete after any kill.

`Display` shows the progress: trials finished and failed, the best so far, time left.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any

from effkeras.search.folder import Publisher, check_rows, identify
from effkeras.search.reporting.tables import duration
from effkeras.search.trials.job import SearchJob, check_job, create_store, locks_of, open_ledger
from effkeras.search.trials.ledger import Limits, ending, failures
from effkeras.search.trials.locks import remove_stale
from effkeras.search.trials.records import Result, Trial, best_of
from effkeras.search.trials.workers import Assignment, WorkerPool
from effkeras.support.console import is_quiet, note, progress
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder
from effkeras.support.locks import try_lock

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
    check_rows(assignment.job.out, assignment.ledger.trials())
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


@dataclass(slots=True)
class Pace:
    """Estimates the time left from the trials that all workers finished in this run, not in earlier ones."""

    clock: Callable[[], float] = time.monotonic
    _start: float = field(init=False)
    _latest: float = field(init=False)
    _before: int = field(default=-1, init=False)
    _finished: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._start = self._latest = self.clock()

    def left(self, status: Status) -> float | None:
        """Seconds until all trials are finished; None until this run finished as many as run at once."""
        now = self.clock()
        if self._before < 0:
            self._before = self._finished = status.finished
        if status.finished > self._finished:
            self._finished, self._latest = status.finished, now
        made = self._finished - self._before
        if made < max(1, status.running):
            return None
        each = (self._latest - self._start) / made
        return max(0.0, each * (status.trials - self._finished) - (now - self._latest))


class Display:
    """A live display on stderr; when stderr is not a terminal, one line for each new best trial."""

    def __init__(self, cost: str) -> None:
        from rich.progress import TextColumn
        from rich.text import Text

        self._cost = cost
        self._pace = Pace()
        self._bar = progress(TextColumn("{task.fields[left]}"))
        self._line = Text()
        self._task: Any = None
        self._best: int | None = None
        self._live = _live(self._bar, self._line)
        self._is_live = self._live.console.is_terminal and not is_quiet()

    def __enter__(self) -> Display:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        if self._is_live:
            self._live.stop()

    def __call__(self, status: Status) -> None:
        """Shows the status of the search."""
        seconds = self._pace.left(status)
        left = "" if seconds is None else duration(seconds)
        if self._task is None:
            self._task = self._bar.add_task("trials", total=status.trials, left="")
        self._bar.update(self._task, completed=status.finished, left=left or "not known yet")
        self._line.plain = line(status, self._cost)
        self._note_best(status, left)

    def _note_best(self, status: Status, left: str) -> None:
        best = status.best
        if best is None or best.number == self._best:
            return
        self._best = best.number
        if not self._is_live:
            rest = f"; about {left} left" if left else ""
            note(f"{status.finished} of {status.trials} trials{rest}; {described(best, self._cost)}")


def line(status: Status, cost: str) -> str:
    """A status as one line of at most 80 columns."""
    counts = [f"{status.running} running"]
    counts += [f"{status.failed} failed"] if status.failed else []
    counts += [f"{status.pruned} pruned"] if status.pruned else []
    best = described(status.best, cost) if status.best else "none is finished yet"
    return f"{', '.join(counts)}; {best}"


def described(best: Trial, cost: str) -> str:
    """The best trial in a few words: reward, accuracy and cost."""
    result = best.result or Result()
    facts = []
    if result.accuracy is not None and result.accuracy != result.reward:
        facts.append(f"accuracy {result.accuracy:.4f}")
    if cost in result.costs:
        facts.append(f"{cost} {short_amount(result.costs[cost])}")
    return f"best {result.reward:.4f}" + (f" ({', '.join(facts)})" if facts else "")


def short_amount(value: float) -> str:
    """A cost with at most three significant digits: 912, 45.1k, 3.21M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _live(*lines: Any) -> Any:
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    return Live(Group(*lines), console=console, refresh_per_second=4, redirect_stdout=False)
