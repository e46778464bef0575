"""Latencies on an Android phone: TensorFlow Lite's `benchmark_model`, called through `adb`.

The user provides the binary; tensorflow/lite/tools/benchmark/README.md documents its flags.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.litert.flatbuffer import operators
from effkeras.litert.latency import Plan
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.measurements import Delegation, Latency
from effkeras.support.tables import read_toml
from export.delegates.adb import Phone, PhoneError, find_phone
from export.delegates.benchmark_log import BenchmarkLog, failed, read_log
from export.delegates.delegate import ANDROID, Absent, BenchmarkCase, PhoneOptions, TimingResult

TURNS = 5
HOW_TO_GET = (
    "give --benchmark-binary FILE: the prebuilt android_aarch64_benchmark_model of "
    "https://www.tensorflow.org/lite/performance/measurement"
)
_TABLE = Path(__file__).with_name("accelerators.toml")
_PROPERTIES = Path(__file__).with_name("phone_properties.toml")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An accelerator of the phone: flags of benchmark_model, and the delegate's names in its log."""

    name: str
    title: str
    flags: tuple[str, ...]
    logged: tuple[str, ...]
    takes_threads: bool
    advice: str


def accelerators() -> dict[str, Accelerator]:
    """All accelerators of a phone, by name."""
    return {
        name: Accelerator(
            f"{ANDROID}-{name}",
            entry["title"],
            tuple(entry["flags"]),
            tuple(entry["logged"]),
            entry["takes_threads"],
            entry["advice"],
        )
        for name, entry in read_toml(_TABLE).items()
    }


@dataclass(frozen=True, slots=True)
class Entry:
    """A case on the phone: its accelerator, and the path of its file there."""

    case: BenchmarkCase
    accelerator: Accelerator
    remote: str

    def flags(self) -> list[str]:
        """The flags that every call of this entry has."""
        threads = [f"--num_threads={self.case.threads}"] if self.accelerator.takes_threads else []
        return [f"--graph={self.remote}", *threads, *self.accelerator.flags]


@dataclass(frozen=True, slots=True)
class Turn:
    """One call's part of the runs of a case: numbers of timed runs and of warm-up runs before them."""

    runs: int
    warmup: int

    def flags(self) -> list[str]:
        """The flags for the runs, with a minimum time of 0 (the tool's default is at least a second)."""
        return [
            f"--num_runs={self.runs}",
            f"--warmup_runs={self.warmup}",
            "--min_secs=0",
            "--warmup_min_secs=0",
            "--report_peak_memory_footprint=true",
        ]


@dataclass(frozen=True, slots=True)
class Bench:
    """A phone, the folder on it that holds the benchmark, and facts about the phone."""

    phone: Phone
    folder: str
    facts: Mapping[str, Any]

    @classmethod
    def prepare(cls, phone: Phone, folder: str, binary: Path) -> Bench:
        """Copies the benchmark to a folder on the phone. Raises PhoneError when that fails."""
        remote = f"{folder}/benchmark_model"
        phone.push(binary, remote)
        phone.run(["chmod", "755", remote], timeout=30)
        facts = {name: phone.property(key) for name, key in read_toml(_PROPERTIES).items()}
        return cls(phone, folder, {"phone": facts, "serial": phone.serial})

    def push(self, cases: Sequence[BenchmarkCase]) -> list[Entry]:
        """Copies the cases' files to the phone, each file once. Raises PhoneError when that fails."""
        ways = accelerators()
        places: dict[bytes, str] = {}
        for case in cases:
            if case.flatbuffer not in places:
                places[case.flatbuffer] = f"{self.folder}/{len(places)}.tflite"
                self._push(case.flatbuffer, places[case.flatbuffer])
        return [Entry(case, ways[case.delegate], places[case.flatbuffer]) for case in cases]

    def time(self, entry: Entry, turn: Turn) -> BenchmarkLog:
        """Runs a turn. If the phone disconnects, the log holds that error."""
        return self._call([*entry.flags(), *turn.flags()])

    def profile(self, entry: Entry, turn: Turn) -> BenchmarkLog:
        """Runs a turn that measures each operator's time; profiling itself slows the runs."""
        return self._call([*entry.flags(), *turn.flags(), "--enable_op_profiling=true"])

    def _push(self, content: bytes, remote: str) -> None:
        with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
            file = Path(folder, Path(remote).name)
            file.write_bytes(content)
            self.phone.push(file, remote)

    def _call(self, flags: Sequence[str]) -> BenchmarkLog:
        try:
            return read_log(self.phone.run([f"{self.folder}/benchmark_model", *flags]).output)
        except PhoneError as error:
            return failed(str(error))


def time_on_phone(cases: Sequence[BenchmarkCase], plan: Plan, options: PhoneOptions) -> list[TimingResult]:
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
    failures = [_failure(log, one.accelerator) for log, one in zip(first, entries, strict=True)]
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
    details = {**bench.facts, **_details(logs, profile)}
    return _latency(entry.case, entry.accelerator, plan, logs, details)


def _failure(log: BenchmarkLog, accelerator: Accelerator) -> str | None:
    """Why a log's figures are not the accelerator's, if so: the tool silently falls back to the CPU."""
    if log.error is not None:
        return log.error
    unknown = [flag for flag in accelerator.flags if flag in log.unknown_flags]
    if unknown:
        return f"this benchmark binary does not know {unknown[0]}"
    if any(name in log.refused for name in accelerator.logged):
        return "it takes no operator of this file"
    if any(one.name in accelerator.logged for one in log.applied):
        return None
    return log.complaint or "the log does not say that it was used"


def _latency(
    case: BenchmarkCase,
    accelerator: Accelerator,
    plan: Plan,
    logs: Sequence[BenchmarkLog],
    details: Mapping[str, Any],
) -> Latency:
    """The latency over all turns: shortest run, mean of all runs, medians of the turns' medians and p95s."""
    turns = [log.statistics for log in logs if log.statistics is not None]
    runs = sum(one.count for one in turns)
    mean = sum(one.mean_us * one.count for one in turns) / runs
    medians = [one.median_us for one in turns if one.median_us is not None]
    p95s = [one.p95_us for one in turns if one.p95_us is not None]
    return Latency(
        accelerator.name,
        accelerator.title,
        case.threads,
        plan.runs,
        plan.warmup,
        min(one.min_us for one in turns) / 1e3,
        mean / 1e3,
        statistics.median(medians) / 1e3 if medians else None,
        statistics.median(p95s) / 1e3 if p95s else None,
        _delegation(logs[0], accelerator, case.flatbuffer),
        _peak_bytes(logs),
        details,
    )


def _delegation(log: BenchmarkLog, accelerator: Accelerator, flatbuffer: bytes) -> Delegation:
    """The delegation, combined from all lines of a log about the delegate."""
    own = [one for one in log.applied if one.name in accelerator.logged]
    total = len(operators(flatbuffer))
    whole = next((one.whole for one in own if one.whole is not None), None)
    nodes = next((one.nodes for one in own if one.nodes is not None), total if whole else None)
    partitions = next((one.partitions for one in own if one.partitions is not None), None)
    return Delegation(total, nodes, partitions, whole)


def _peak_bytes(logs: Sequence[BenchmarkLog]) -> int | None:
    """The highest peak memory of all turns."""
    memory = [log.memory_mb for log in logs if log.memory_mb is not None]
    return round(max(memory) * 2**20) if memory else None


def _details(logs: Sequence[BenchmarkLog], profile: BenchmarkLog) -> dict[str, Any]:
    """Further values of a row: turns, loading time, the tool's version, milliseconds by operator."""
    loading = [log.init_us for log in logs if log.init_us is not None]
    nodes = [{"op": one.kind, "name": one.name, "ms": one.ms} for one in profile.nodes]
    return {
        "turns": len(logs),
        "load_ms": statistics.median(loading) / 1e3 if loading else None,
        "benchmark_version": logs[0].version,
        "profile": nodes,
    }
