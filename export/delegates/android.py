"""An Android phone, through `adb` and the official `benchmark_model` that the user brings.

The flags and what they do: tensorflow/lite/tools/benchmark/README.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.console import track
from effkeras.litert.flatbuffer import operators
from effkeras.litert.latency import Plan
from effkeras.litert.runner import read_flatbuffer
from effkeras.tables import read_toml
from export.delegates.adb import Phone, PhoneError, find_phone
from export.delegates.benchmark_log import Applied, BenchmarkLog, Statistics, failed, read_log
from export.delegates.delegate import Absent, Share
from export.delegates.timing import Distribution, Job, Outcome, Timing, checked_plan

NAME = "android"
TURNS = 5
HOW_TO_GET = (
    "give --benchmark-binary FILE: the prebuilt android_aarch64_benchmark_model of "
    "https://www.tensorflow.org/lite/performance/measurement"
)
_ACCELERATORS = Path(__file__).with_name("accelerators.toml")


@dataclass(frozen=True, slots=True)
class AndroidOptions:
    """Which phone and which benchmark binary; a serial of None takes the only phone that is there."""

    serial: str | None = None
    binary: Path | None = None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A way to run a file on the phone: flags of benchmark_model, and what its log calls the delegate."""

    name: str
    title: str
    flags: tuple[str, ...]
    logged: tuple[str, ...]
    takes_threads: bool
    advice: str


@dataclass(frozen=True, slots=True)
class Bench:
    """A phone with the benchmark in a folder of it, and what is known of the phone."""

    phone: Phone
    folder: str
    facts: Mapping[str, Any]

    def call(self, flags: Sequence[str]) -> BenchmarkLog:
        """Runs the benchmark; a phone that went away is a log that says so."""
        try:
            return read_log(self.phone.run([f"{self.folder}/benchmark_model", *flags]).said)
        except PhoneError as error:
            return failed(str(error))


@dataclass(frozen=True, slots=True)
class Entry:
    """A job on the phone: how it runs, and where its file lies there."""

    job: Job
    accelerator: Accelerator
    remote: str

    def flags(self) -> list[str]:
        """What is the same in every call."""
        threads = [f"--num_threads={self.job.threads}"] if self.accelerator.takes_threads else []
        return [f"--graph={self.remote}", *threads, *self.accelerator.flags]


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of the runs of a job: so many timed ones, so many before them."""

    runs: int
    warmup: int

    def flags(self) -> list[str]:
        """Without a least time: by default the tool runs for a second, however few runs are asked."""
        return [
            f"--num_runs={self.runs}",
            f"--warmup_runs={self.warmup}",
            "--min_secs=0",
            "--warmup_min_secs=0",
            "--report_peak_memory_footprint=true",
        ]


def accelerators() -> dict[str, Accelerator]:
    """The ways to run on a phone, by name."""
    table = read_toml(_ACCELERATORS)
    return {
        name: Accelerator(
            f"{NAME}-{name}",
            entry["title"],
            tuple(entry["flags"]),
            tuple(entry["logged"]),
            entry["takes_threads"],
            entry["advice"],
        )
        for name, entry in table.items()
    }


def time_on_phone(jobs: Sequence[Job], plan: Plan, options: AndroidOptions) -> list[Outcome]:
    """Times files on a phone; `delegate` of a job is the name of an accelerator. What fails is Absent.

    Each job runs in several calls of the benchmark, and jobs take turns, so that a phone that grows hot slows
    all alike. A last call of each gives the profile by operators, and is not timed.

    Raises EffkerasError for a plan without runs, and for a binary that cannot be read.
    """
    checked_plan(plan, (job.threads for job in jobs))
    try:
        phone = find_phone(options.serial)
        binary = _checked_binary(options.binary)
        with phone.folder() as folder:
            bench = _prepared(phone, folder, binary)
            return _timed(bench, _pushed(bench, jobs), plan)
    except PhoneError as error:
        return [Absent(NAME, str(error))] * len(jobs)


def _checked_binary(binary: Path | None) -> Path:
    if binary is None:
        raise PhoneError(f"no benchmark binary is given; {HOW_TO_GET}")
    read_flatbuffer(binary)
    return binary


def _prepared(phone: Phone, folder: str, binary: Path) -> Bench:
    remote = f"{folder}/benchmark_model"
    phone.push(binary, remote)
    phone.run(["chmod", "755", remote], timeout=30)
    properties = read_toml(_ACCELERATORS.with_name("phone_properties.toml"))
    facts = {name: phone.property(key) for name, key in properties.items()}
    return Bench(phone, folder, {"phone": facts, "serial": phone.serial})


def _pushed(bench: Bench, jobs: Sequence[Job]) -> list[Entry]:
    """The jobs with their files on the phone, each file once."""
    ways = accelerators()
    places: dict[bytes, str] = {}
    for job in jobs:
        if job.flatbuffer not in places:
            places[job.flatbuffer] = f"{bench.folder}/{len(places)}.tflite"
            _push(bench.phone, job.flatbuffer, places[job.flatbuffer])
    return [Entry(job, ways[job.delegate], places[job.flatbuffer]) for job in jobs]


def _push(phone: Phone, content: bytes, remote: str) -> None:
    with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
        file = Path(folder, Path(remote).name)
        file.write_bytes(content)
        phone.push(file, remote)


def _timed(bench: Bench, entries: Sequence[Entry], plan: Plan) -> list[Outcome]:
    """The first turn shows which can run at all; only those go on."""
    turns = _turns(plan)
    first = [bench.call([*one.flags(), *turns[0].flags()]) for one in track(entries, "loading on the phone")]
    failures = {i: _failure(log, entries[i]) for i, log in enumerate(first)}
    able = [i for i, failure in failures.items() if failure is None]
    logs = {i: [first[i]] for i in able}
    for turn in track(turns[1:], "timing on the phone"):
        for i in able:
            logs[i].append(bench.call([*entries[i].flags(), *turn.flags()]))
    return [
        _timing(bench, one, plan, logs[i]) if i in able else _absent(one, failures[i])
        for i, one in enumerate(entries)
    ]


def _turns(plan: Plan) -> list[Turn]:
    """The runs in about equal parts; few runs are not parted."""
    number = min(TURNS, max(plan.runs // TURNS, 1))
    parts = [plan.runs // number + (i < plan.runs % number) for i in range(number)]
    return [Turn(part, plan.warmup) for part in parts]


def _absent(entry: Entry, reason: str | None) -> Absent:
    return Absent(entry.accelerator.name, reason or "it cannot run", entry.accelerator.advice)


def _failure(log: BenchmarkLog, entry: Entry) -> str | None:
    """Why the figures of a log are not those of the accelerator; the tool itself falls back to the CPU."""
    flags, names = entry.accelerator.flags, entry.accelerator.logged
    if log.error is not None:
        return log.error
    unknown = [flag for flag in flags if flag in log.unknown_flags]
    if unknown:
        return f"this benchmark binary does not know {unknown[0]}"
    if any(name in log.refused for name in names):
        return "it takes no operator of this file"
    if any(one.name in names for one in log.applied):
        return None
    return log.complaint or "the log does not say that it was used"


def _timing(bench: Bench, entry: Entry, plan: Plan, logs: Sequence[BenchmarkLog]) -> Outcome:
    broken = next((log.error for log in logs if log.error is not None), None)
    if broken is not None:
        return _absent(entry, f"it broke off: {broken}")
    profile = bench.call([*entry.flags(), *_turns(plan)[0].flags(), "--enable_op_profiling=true"])
    memory = [log.memory_mb for log in logs if log.memory_mb is not None]
    return Timing(
        entry.accelerator.name,
        entry.accelerator.title,
        entry.job.threads,
        plan,
        _distribution([log.statistics for log in logs if log.statistics is not None]),
        _share(logs[0].applied, entry),
        round(max(memory) * 2**20) if memory else None,
        {**bench.facts, **_details(logs, profile)},
    )


def _distribution(turns: Sequence[Statistics]) -> Distribution:
    """Of all turns: the least, the mean of all runs, and the medians of the turns' medians and p95."""
    runs = sum(one.count for one in turns)
    mean = sum(one.mean_us * one.count for one in turns) / runs
    medians = [one.median_us for one in turns if one.median_us is not None]
    p95s = [one.p95_us for one in turns if one.p95_us is not None]
    middle = [statistics.median(values) / 1e3 if values else None for values in (medians, p95s)]
    return Distribution(min(one.min_us for one in turns) / 1e3, mean / 1e3, *middle)


def _share(applied: Sequence[Applied], entry: Entry) -> Share:
    """What the lines of the log about the delegate say, together."""
    own = [one for one in applied if one.name in entry.accelerator.logged]
    total = len(operators(entry.job.flatbuffer))
    whole = next((one.whole for one in own if one.whole is not None), None)
    nodes = next((one.nodes for one in own if one.nodes is not None), total if whole else None)
    partitions = next((one.partitions for one in own if one.partitions is not None), None)
    return Share(total, nodes, partitions, whole)


def _details(logs: Sequence[BenchmarkLog], profile: BenchmarkLog) -> dict[str, Any]:
    loading = [log.init_us for log in logs if log.init_us is not None]
    nodes = [{"op": one.kind, "name": one.name, "ms": one.ms} for one in profile.nodes]
    return {
        "turns": len(logs),
        "load_ms": statistics.median(loading) / 1e3 if loading else None,
        "benchmark_version": logs[0].version,
        "profile": nodes,
    }
