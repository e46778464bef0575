"""Times files on the delegates of this machine, one inference of each in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.litert.latency import Plan, Session, distribution, rounds
from effkeras.support.console import track
from effkeras.support.measurements import Latency
from effkeras.support.quiet import quiet
from export.delegates.delegate import Absent, UnusableError
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


Outcome = Latency | Absent


def time_here(jobs: Sequence[Job], plan: Plan, title: str = "timing") -> list[Outcome]:
    """Times files on delegates of this machine; what cannot run is Absent, in its place.

    Everything takes turns; see `rounds`.

    Args:
        jobs: files with delegates; equal files may be given again.
        plan: how many rounds.
        title: what the progress bar says.

    Raises EffkerasError for a plan without runs.
    """
    plan.check(job.threads for job in jobs)
    trials = _trials(jobs)
    opened = [_opened(job, trials.get(i)) for i, job in enumerate(jobs)]
    sessions = {i: one for i, one in enumerate(opened) if not isinstance(one, Absent)}
    times = dict(zip(sessions, rounds(list(sessions.values()), plan, title).T, strict=True))
    outcomes = [
        one if isinstance(one, Absent) else _latency(jobs[i], one, times[i], plan, trials.get(i))
        for i, one in enumerate(opened)
    ]
    with quiet():  # LiteRT tells of everything that it takes down
        opened.clear()
        sessions.clear()
    return outcomes


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


def _latency(
    job: Job, session: Session, times: np.ndarray, plan: Plan, trial: Trial | Absent | None
) -> Latency:
    return Latency(
        job.delegate,
        host_delegates()[job.delegate].title,
        job.threads,
        plan.runs,
        plan.warmup,
        *distribution(times),
        session.delegation(),
        trial.peak_bytes if isinstance(trial, Trial) else None,
    )
