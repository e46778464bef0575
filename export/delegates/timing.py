"""Times files on delegates of this machine and of a phone; all of them take turns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from effkeras.litert.latency import Plan, Session, distribution, rounds
from effkeras.support.console import quiet, track
from effkeras.support.measurements import Latency
from export.delegates.android import accelerators, time_on_phone
from export.delegates.delegate import (
    ANDROID,
    DEFAULT,
    Absent,
    BenchmarkCase,
    Described,
    PhoneOptions,
    TimingResult,
    UnusableError,
    host_delegates,
)
from export.delegates.probe import Probe, probe_file


@dataclass(frozen=True, slots=True)
class Selection:
    """Delegates by name, numbers of threads, and the phone to use if "android" is among them."""

    delegates: tuple[str, ...] = DEFAULT
    threads: tuple[int, ...] = (1, 2)
    phone: PhoneOptions = field(default_factory=PhoneOptions)

    def cases_here(self, flatbuffer: bytes, probed: bool = True) -> list[BenchmarkCase]:
        """One case for each selected delegate of this machine; for `probed` see `BenchmarkCase`."""
        known = host_delegates()
        return [
            BenchmarkCase(flatbuffer, name, threads, probed and known[name].in_process)
            for name in self.delegates
            if name != ANDROID
            for threads in self._threads(known[name].takes_threads)
        ]

    def cases_on_phone(self, flatbuffer: bytes) -> list[BenchmarkCase]:
        """One case for each accelerator of the phone, if "android" is selected."""
        ways = accelerators() if ANDROID in self.delegates else {}
        return [
            BenchmarkCase(flatbuffer, name, threads)
            for name, way in ways.items()
            for threads in self._threads(way.takes_threads)
        ]

    def _threads(self, matters: bool) -> tuple[int, ...]:
        return self.threads if matters else (1,)


def time_all(
    contents: Sequence[bytes], selection: Selection, plan: Plan, parts: Sequence[bytes] = ()
) -> list[list[TimingResult]]:
    """The latencies on each selected delegate, one list for each file.

    All files and delegates of this machine take turns, and so do those of the phone.

    Args:
        contents: the contents of the files.
        selection: delegates and threads.
        plan: numbers of warm-up and timed runs.
        parts: further files, parts of the others, which are not probed in a separate process.
    """
    here = [selection.cases_here(content) for content in contents]
    here += [selection.cases_here(part, probed=False) for part in parts]
    there = [selection.cases_on_phone(content) for content in (*contents, *parts)]
    found_here = iter(time_here([case for cases in here for case in cases], plan) if any(here) else [])
    found_there = iter(_on_phone([case for cases in there for case in cases], selection, plan))
    return [
        [*itertools.islice(found_here, len(own)), *itertools.islice(found_there, len(others))]
        for own, others in zip(here, there, strict=True)
    ]


def time_here(cases: Sequence[BenchmarkCase], plan: Plan, title: str = "timing") -> list[TimingResult]:
    """Times files on delegates of this machine; a case that cannot run yields Absent in its place.

    All cases take turns; see `rounds`.

    Args:
        cases: files with delegates; a file may occur several times.
        plan: numbers of warm-up and timed rounds.
        title: the label of the progress bar.

    Raises EffkerasError for a plan without runs.
    """
    plan.check(case.threads for case in cases)
    probes = _probes(cases)
    opened = [_opened(case, probes.get(i)) for i, case in enumerate(cases)]
    sessions = {i: one for i, one in enumerate(opened) if not isinstance(one, Absent)}
    times = dict(zip(sessions, rounds(list(sessions.values()), plan, title).T, strict=True))
    results = [
        one if isinstance(one, Absent) else _latency(cases[i], one, times[i], plan, probes.get(i))
        for i, one in enumerate(opened)
    ]
    with quiet():  # LiteRT logs whatever it frees
        opened.clear()
        sessions.clear()
    return results


def _on_phone(cases: Sequence[BenchmarkCase], selection: Selection, plan: Plan) -> list[TimingResult]:
    return time_on_phone(cases, plan, selection.phone) if cases else []


def _probes(cases: Sequence[BenchmarkCase]) -> dict[int, Probe | Absent]:
    """Results of the separate processes; an unprobed case is Absent if its delegate failed in another."""
    chosen = [i for i, case in enumerate(cases) if case.probed]
    probes = {i: _probe(cases[i]) for i in track(chosen, "loading")} if chosen else {}
    broken = {cases[i].delegate: one for i, one in probes.items() if isinstance(one, Absent)}
    others = (i for i in range(len(cases)) if i not in probes)
    return {**probes, **{i: broken[cases[i].delegate] for i in others if cases[i].delegate in broken}}


def _probe(case: BenchmarkCase) -> Probe | Absent:
    delegate = host_delegates()[case.delegate]
    reason = delegate.missing()
    if reason is None:
        probe = probe_file(case.flatbuffer, case.delegate, case.threads)
        if probe.failure is None:
            return probe
        reason = probe.failure
    return Absent(delegate.name, reason, delegate.how_to_get)


def _opened(case: BenchmarkCase, probe: Probe | Absent | None) -> Session | Absent:
    if isinstance(probe, Absent):
        return probe
    delegate = host_delegates()[case.delegate]
    try:
        return delegate.open(case.flatbuffer, case.threads)
    except UnusableError as error:
        return Absent(delegate.name, str(error), delegate.how_to_get)


def _latency(
    case: BenchmarkCase, session: Session, times: np.ndarray, plan: Plan, probe: Probe | Absent | None
) -> Latency:
    return Latency(
        case.delegate,
        host_delegates()[case.delegate].title,
        case.threads,
        plan.runs,
        plan.warmup,
        *distribution(times),
        session.delegation(),
        probe.peak_bytes if isinstance(probe, Probe) else None,
        session.details() if isinstance(session, Described) else {},
    )
