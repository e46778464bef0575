"""Latencies on an Android phone, through `adb` and a `benchmark_model` binary that the user provides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.litert.latency import Plan
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from export.delegates import benchmark_model
from export.delegates.adb import PhoneError, find_phone
from export.delegates.benchmark_log import BenchmarkLog
from export.delegates.benchmark_model import Bench, Entry, Turn
from export.delegates.delegate import ANDROID, Absent, BenchmarkCase, TimingResult

TURNS = 5
HOW_TO_GET = (
    "give --benchmark-binary FILE: the prebuilt android_aarch64_benchmark_model of "
    "https://www.tensorflow.org/lite/performance/measurement"
)


@dataclass(frozen=True, slots=True)
class AndroidOptions:
    """The phone's serial number (None: the only phone connected) and the benchmark binary."""

    serial: str | None = None
    binary: Path | None = None


def time_on_phone(cases: Sequence[BenchmarkCase], plan: Plan, options: AndroidOptions) -> list[TimingResult]:
    """Times files on a phone; each case's `delegate` names an accelerator. A case that fails is Absent.

    Each case runs in several calls of the benchmark, and cases take turns, so that a phone that heats up
    slows all alike. A final untimed call for each case collects the profile by operator.

    Raises EffkerasError for a plan without runs, and for a binary that cannot be read.
    """
    plan.check(case.threads for case in cases)
    try:
        phone = find_phone(options.serial)
        binary = _checked_binary(options.binary)
        with phone.folder() as folder:
            bench = Bench.prepare(phone, folder, binary)
            return _timed(bench, bench.push(cases), plan)
    except PhoneError as error:
        return [Absent(ANDROID, str(error))] * len(cases)


def _checked_binary(binary: Path | None) -> Path:
    if binary is None:
        raise PhoneError(f"no benchmark binary is given; {HOW_TO_GET}")
    try:
        binary.open("rb").close()
    except OSError as error:
        raise EffkerasError(f"cannot read {binary}: {error.strerror}; {HOW_TO_GET}") from error
    return binary


def _timed(bench: Bench, entries: Sequence[Entry], plan: Plan) -> list[TimingResult]:
    """Times the entries; only those that succeed in the first turn run in the later turns."""
    turns = _turns(plan)
    first = [bench.time(one, turns[0]) for one in track(entries, "loading on the phone")]
    failures = [
        benchmark_model.failure(log, one.accelerator) for log, one in zip(first, entries, strict=True)
    ]
    logs = {i: [first[i]] for i, failure in enumerate(failures) if failure is None}
    for turn in track(turns[1:], "timing on the phone"):
        for i, own in logs.items():
            own.append(bench.time(entries[i], turn))
    return [
        _timing(bench, one, plan, logs[i]) if i in logs else _absent(one, failures[i])
        for i, one in enumerate(entries)
    ]


def _turns(plan: Plan) -> list[Turn]:
    """Splits the runs into about equal turns; few runs stay in a single turn."""
    number = min(TURNS, max(plan.runs // TURNS, 1))
    parts = [plan.runs // number + (i < plan.runs % number) for i in range(number)]
    return [Turn(part, plan.warmup) for part in parts]


def _absent(entry: Entry, reason: str | None) -> Absent:
    return Absent(entry.accelerator.name, reason or "it cannot run", entry.accelerator.advice)


def _timing(bench: Bench, entry: Entry, plan: Plan, logs: Sequence[BenchmarkLog]) -> TimingResult:
    broken = next((log.error for log in logs if log.error is not None), None)
    if broken is not None:
        return _absent(entry, f"the benchmark failed: {broken}")
    profile = bench.profile(entry, _turns(plan)[0])
    details = {**bench.facts, **benchmark_model.details(logs, profile)}
    return benchmark_model.latency(entry.case, entry.accelerator, plan, logs, details)
