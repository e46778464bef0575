"""`python -m export.bench F.tflite...`: latencies, with the setting that each was measured under."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.building.sources import run_of_artifact
from effkeras.support import results
from effkeras.support.console import facts, note, result, run_command, table
from effkeras.support.errors import EffkerasError
from effkeras.support.files import distinct_names
from effkeras.support.options import Verb, above_zero, add_json, parser
from export.delegates.delegate import ANDROID, DEFAULT, Absent, PhoneOptions, checked_names, known_names

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec
    from effkeras.litert.latency import Plan
    from effkeras.support.measurements import Latency
    from export.delegates.delegate import TimingResult
    from export.delegates.timing import Selection

COLUMNS = ("file", "kernels", "thr", "min ms", "median", "p95", "delegated", "MB")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Numbers of threads, timed and untimed runs of each, the file for the rows, and the delegates.

    `blocks` is the file for the latencies of the network's blocks; it requires exactly one input file.
    """

    threads: tuple[int, ...] = (1, 2)
    runs: int = 50
    warmup: int = 10
    out: Path | None = None
    delegates: tuple[str, ...] = DEFAULT
    phone: PhoneOptions = field(default_factory=PhoneOptions)
    blocks: Path | None = None


@dataclass(frozen=True, slots=True)
class Timed:
    """The latency of one file under one setting."""

    file: Path
    model: str
    latency: Latency

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "latency"; `kernels` names what ran the file."""
        size = self.file.stat().st_size
        own = {"kind": "latency", "model": self.model, "artifact": self.file.name, "bytes": size}
        return {**own, **self.latency.to_row()}


@dataclass(frozen=True, slots=True)
class Benched:
    """The latencies, and the delegates that could not be measured."""

    timed: list[Timed]
    absent: list[Absent]


VERB = Verb("export bench", "measure latencies of .tflite files")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def bench(files: Sequence[Path], options: BenchOptions) -> list[Timed]:
    """The latencies of `bench_all`, without the absent delegates."""
    return bench_all(files, options).timed


def bench_all(files: Sequence[Path], options: BenchOptions) -> Benched:
    """Times files on each delegate with each number of threads.

    All files and settings on this machine take turns, so their figures are comparable. The same holds on a
    phone. Rows are appended to `options.out`, or to the results of the run folder that holds the file.

    Raises EffkerasError when a file is missing or corrupt, or a delegate is unknown.
    """
    from effkeras.litert.latency import Plan
    from effkeras.litert.runner import read_flatbuffer
    from export.delegates.timing import time_all

    selection, plan = _selection(options), Plan(options.runs, options.warmup)
    contents = {file: read_flatbuffer(file) for file in files}
    models = {file: _model_name(file, content) for file, content in contents.items()}
    if options.blocks is not None:
        outcomes = [_with_blocks(contents, models, selection, plan, options.blocks)]
    else:
        outcomes = time_all(list(contents.values()), selection, plan)
    found = [(file, one) for file, own in zip(contents, outcomes, strict=True) for one in own]
    timed = [Timed(file, models[file], one) for file, one in found if not isinstance(one, Absent)]
    _keep(timed, options.out)
    return Benched(timed, list(dict.fromkeys(one for _, one in found if isinstance(one, Absent))))


def _selection(options: BenchOptions) -> Selection:
    from export.delegates.timing import Selection

    return Selection(checked_names(options.delegates), options.threads, options.phone)


def _with_blocks(
    contents: Mapping[Path, bytes], models: Mapping[Path, str], selection: Selection, plan: Plan, to: Path
) -> list[TimingResult]:
    from effkeras.support.measurements import write_blocks
    from export.delegates.blocks import Network, time_blocks

    if len(contents) != 1:
        raise EffkerasError("--blocks makes the table of one network: give one file")
    ((file, content),) = contents.items()
    network = Network(content, models[file], file.name, _definition(content))
    outcomes, table = time_blocks(network, selection, plan)
    write_blocks(to, table)
    return outcomes


def _definition(content: bytes) -> ModelSpec | None:
    from effkeras.litert.rewriting import attached
    from effkeras.litert.runner import DEFINITION, definition_of

    return definition_of(content) if attached(content, DEFINITION) is not None else None


def _model_name(file: Path, content: bytes) -> str:
    try:
        spec = _definition(content)
    except EffkerasError as error:
        raise EffkerasError(f"{file}: {error}") from error
    return file.stem if spec is None else spec.name


def _keep(timed: Iterable[Timed], out: Path | None) -> None:
    by_file: dict[Path, list[results.Row]] = {}
    for one in timed:
        run = run_of_artifact(one.file)
        target = out or (run / "results.jsonl" if run else None)
        if target is not None:
            by_file.setdefault(target, []).append(results.stamped(one.to_row()))
    for target, rows in by_file.items():
        results.append(target, rows)


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    options = _options(chosen)
    found = bench_all(chosen.files, options)
    environment = results.environment()
    title = (
        f"One inference: {options.runs} runs each after {options.warmup}, taking turns\n"
        f"{environment['machine']['cpu']}, {environment['machine']['cores']} cores; "
        f"ai-edge-litert {environment['versions']['ai-edge-litert']}"
    )
    result([one.to_row() | {"file": str(one.file)} for one in found.timed])
    if found.timed:
        names = distinct_names([one.file for one in found.timed])
        table(title, COLUMNS, [_cells(names[one.file], one) for one in found.timed], fold_figures=False)
        for versions in dict.fromkeys(filter(None, map(_browser, found.timed))):
            note(versions)
    if found.absent:
        facts("Absent", [(one.delegate, one.advice) for one in found.absent])
    if options.blocks is not None and found.timed:
        note(f"the latencies of its blocks are in {options.blocks}")
    return 0 if found.timed else 1


def _options(chosen: argparse.Namespace) -> BenchOptions:
    serial, delegates = chosen.adb, tuple(chosen.delegate)
    if serial is not None and serial.endswith(".tflite"):
        raise EffkerasError(f"--adb takes {serial} for a serial number: put the files before it")
    if (serial is not None or chosen.benchmark_binary) and ANDROID not in delegates:
        delegates = (*delegates, ANDROID)
    return BenchOptions(
        chosen.threads,
        chosen.runs,
        chosen.warmup,
        chosen.out,
        delegates,
        PhoneOptions(serial or None, chosen.benchmark_binary),
        chosen.blocks,
    )


def _cells(name: str, timed: Timed) -> list[str]:
    latency = timed.latency
    return [
        name,
        latency.kernels,
        str(latency.threads),
        *(_figure(value, 2) for value in (latency.min_ms, latency.median_ms, latency.p95_ms)),
        latency.delegation.short(),
        _figure(None if latency.peak_bytes is None else latency.peak_bytes / 1e6, 1),
    ]


def _browser(timed: Timed) -> str:
    """The versions of the browser and of the runtime in it; "" where none ran the file."""
    details = timed.latency.details
    return f"LiteRT.js {details['litert_js']} in {details['browser']}" if "litert_js" in details else ""


def _figure(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _threads(text: str) -> tuple[int, ...]:
    return tuple(above_zero(part) for part in text.split(","))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Times .tflite files on delegates, here and on a phone.")
    options.add_argument("files", nargs="+", type=Path, metavar="F.tflite", help="files to compare")
    options.add_argument("--threads", type=_threads, default=(1, 2), help="such as 1,2 (the default)")
    options.add_argument("--runs", type=above_zero, default=50, help="timed runs of each (default: 50)")
    options.add_argument("--warmup", type=int, default=10, help="untimed runs before them (default: 10)")
    options.add_argument("--out", type=Path, metavar="FILE", help="add the rows to this file")
    options.add_argument(
        "--delegate",
        type=_words,
        default=DEFAULT,
        metavar="NAMES",
        help=f"what runs them, of: {','.join(known_names())} "
        f"(default: {','.join(DEFAULT)}); what is absent is reported with how to get it",
    )
    options.add_argument("--blocks", type=Path, metavar="TOML", help="write the latency of each block too")
    add_json(options)
    phone = options.add_argument_group("a phone, through adb")
    phone.add_argument(
        "--adb", nargs="?", const="", metavar="SERIAL", help="run on this phone, or on the only one"
    )
    phone.add_argument(
        "--benchmark-binary", type=Path, metavar="FILE", help="TensorFlow Lite's benchmark_model for Android"
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
