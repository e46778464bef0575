"""Which delegates a run takes, for which files, on how many threads; here and on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from effkeras.litert.latency import Plan
from export.delegates.accelerators import accelerators
from export.delegates.android import AndroidOptions, time_on_phone
from export.delegates.delegate import DEFAULT
from export.delegates.names import ANDROID, host_delegates
from export.delegates.timing import Job, Outcome, time_here


@dataclass(frozen=True, slots=True)
class Choice:
    """Delegates by name, numbers of threads, and the phone where "android" is among them."""

    delegates: tuple[str, ...] = DEFAULT
    threads: tuple[int, ...] = (1, 2)
    android: AndroidOptions = field(default_factory=AndroidOptions)

    def jobs_here(self, flatbuffer: bytes, in_advance: bool = True) -> list[Job]:
        """A file on every delegate of this machine that is chosen; for `in_advance` see `Job`."""
        known = host_delegates()
        return [
            Job(flatbuffer, name, threads, in_advance)
            for name in self.delegates
            if name != ANDROID
            for threads in self._threads(known[name].takes_threads)
        ]

    def jobs_on_phone(self, flatbuffer: bytes) -> list[Job]:
        """A file on every accelerator of the phone, if that is chosen."""
        ways = accelerators() if ANDROID in self.delegates else {}
        return [
            Job(flatbuffer, name, threads)
            for name, way in ways.items()
            for threads in self._threads(way.takes_threads)
        ]

    def _threads(self, matters: bool) -> tuple[int, ...]:
        return self.threads if matters else (1,)


def time_all(
    contents: Sequence[bytes], choice: Choice, plan: Plan, parts: Sequence[bytes] = ()
) -> list[list[Outcome]]:
    """What each file takes on each chosen delegate, file by file.

    All files and delegates of this machine take turns, and so do those of the phone.

    Args:
        contents: files.
        choice: what runs them.
        plan: how often.
        parts: more files, parts of the others, which are not tried out in a process of their own.
    """
    here = [choice.jobs_here(content) for content in contents]
    here += [choice.jobs_here(part, in_advance=False) for part in parts]
    there = [choice.jobs_on_phone(content) for content in (*contents, *parts)]
    found_here = iter(time_here([job for jobs in here for job in jobs], plan) if any(here) else [])
    found_there = iter(_on_phone([job for jobs in there for job in jobs], choice, plan))
    return [
        [*_taken(found_here, len(own)), *_taken(found_there, len(others))]
        for own, others in zip(here, there, strict=True)
    ]


def _on_phone(jobs: Sequence[Job], choice: Choice, plan: Plan) -> list[Outcome]:
    return time_on_phone(jobs, plan, choice.android) if jobs else []


def _taken(found: Iterator[Outcome], number: int) -> list[Outcome]:
    return [next(found) for _ in range(number)]
