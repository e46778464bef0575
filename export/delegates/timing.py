"""Times files on the delegates of this machine, one inference of each in turn."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from effkeras.litert.latency import Plan
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.quiet import quiet
from export.delegates.delegate import Absent, Session, Share, UnusableError
from export.delegates.names import host_delegates
from export.delegates.trial import Trial, try_out


@dataclass(frozen=True, slots=True)
class Job:
    """A file's content for a delegate, by its name, on so many threads.

    `in_advance` runs it in a process of its own first, for its memory and because a driver may crash.
    """

    flatbuffer: bytes
    delegate: str
    threads: int = 1
    in_advance: bool = True


@dataclass(frozen=True, slots=True)
class Distribution:
    """Milliseconds of single inferences; None is what a tool does not tell."""

    min_ms: float
    mean_ms: float
    median_ms: float | None = None
    p95_ms: float | None = None

    def to_row(self) -> dict[str, Any]:
        """The figures as a plain record, to the microsecond."""
        values = {name: getattr(self, name) for name in ("min_ms", "median_ms", "p95_ms", "mean_ms")}
        return {name: None if value is None else round(value, 3) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Timing:
    """A file on a delegate: the distribution and everything that one needs to know to read it.

    `kernels` is the delegate's title. `peak_bytes` is the memory that file and delegate add to the process at
    most. `details` is what else the delegate tells, such as which phone it was.
    """

    delegate: str
    kernels: str
    threads: int
    plan: Plan
    distribution: Distribution
    share: Share
    peak_bytes: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The measurement as a plain record."""
        return {
            "delegate": self.delegate,
            "kernels": self.kernels,
            "threads": self.threads,
            "runs": self.plan.runs,
            "warmup": self.plan.warmup,
            **self.distribution.to_row(),
            "total_ops": self.share.total_ops,
            "delegated_ops": self.share.delegated_ops,
            "partitions": self.share.partitions,
            "wholly_delegated": self.share.whole,
            "peak_bytes": self.peak_bytes,
            **self.details,
        }


Outcome = Timing | Absent


def checked_plan(plan: Plan, threads: Iterable[int]) -> None:
    """Raises EffkerasError for fewer than 1 run or thread, and for a negative warm-up."""
    if plan.runs < 1 or plan.warmup < 0 or any(number < 1 for number in threads):
        raise EffkerasError("timing needs at least 1 run and 1 thread, and no negative warm-up")


def time_here(jobs: Sequence[Job], plan: Plan, title: str = "timing") -> list[Outcome]:
    """Times files on delegates of this machine; what cannot run is Absent, in its place.

    What runs lives in this process together, and every round runs each of it once, so that whatever else the
    machine does hits all alike. Input is one fixed random image.

    Args:
        jobs: files with delegates; equal files may be given again.
        plan: how many rounds.
        title: what the progress bar says.

    Raises EffkerasError for a plan without runs.
    """
    checked_plan(plan, (job.threads for job in jobs))
    trials = _trials(jobs)
    opened = [_opened(job, trials.get(i)) for i, job in enumerate(jobs)]
    sessions = {i: one for i, one in enumerate(opened) if not isinstance(one, Absent)}
    times = dict(zip(sessions, rounds(list(sessions.values()), plan, title).T, strict=True))
    outcomes = [
        one if isinstance(one, Absent) else _timing(jobs[i], one, times[i], plan, trials.get(i))
        for i, one in enumerate(opened)
    ]
    with quiet():  # LiteRT tells of everything that it takes down
        opened.clear()
        sessions.clear()
    return outcomes


def rounds(sessions: Sequence[Session], plan: Plan, title: str) -> np.ndarray:
    """Milliseconds (runs, sessions): every round runs each session once; warm-up rounds are left out."""
    number = plan.warmup + plan.runs if sessions else 0
    times = [[_milliseconds(session) for session in sessions] for _ in track(range(number), title)]
    return np.array(times[plan.warmup :]).reshape(plan.runs if sessions else 0, len(sessions))


def distribution_of(times: np.ndarray) -> Distribution:
    """The distribution of milliseconds (runs,)."""
    median, p95 = float(np.median(times)), float(np.percentile(times, 95))
    return Distribution(float(times.min()), float(times.mean()), median, p95)


def _trials(jobs: Sequence[Job]) -> dict[int, Trial | Absent]:
    """What a process of its own showed; a job without one fails with its delegate."""
    chosen = [i for i, job in enumerate(jobs) if job.in_advance]
    trials = {i: _tried(jobs[i]) for i in track(chosen, "loading")} if chosen else {}
    broken = {jobs[i].delegate: one for i, one in trials.items() if isinstance(one, Absent)}
    others = (i for i in range(len(jobs)) if i not in trials)
    return {**trials, **{i: broken[jobs[i].delegate] for i in others if jobs[i].delegate in broken}}


def _tried(job: Job) -> Trial | Absent:
    delegate = host_delegates()[job.delegate]
    reason = delegate.missing()
    if reason is None:
        trial = try_out(job.flatbuffer, job.delegate, job.threads)
        if trial.failure is None:
            return trial
        reason = trial.failure
    return Absent(delegate.name, reason, delegate.how_to_get)


def _opened(job: Job, trial: Trial | Absent | None) -> Session | Absent:
    if isinstance(trial, Absent):
        return trial
    delegate = host_delegates()[job.delegate]
    try:
        return delegate.open(job.flatbuffer, job.threads)
    except UnusableError as error:
        return Absent(delegate.name, str(error), delegate.how_to_get)


def _timing(
    job: Job, session: Session, times: np.ndarray, plan: Plan, trial: Trial | Absent | None
) -> Timing:
    return Timing(
        job.delegate,
        host_delegates()[job.delegate].title,
        job.threads,
        plan,
        distribution_of(times),
        session.share(),
        trial.peak_bytes if isinstance(trial, Trial) else None,
    )


def _milliseconds(session: Session) -> float:
    start = time.perf_counter()
    session.run()
    return (time.perf_counter() - start) * 1e3
