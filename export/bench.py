"""`python -m export.bench F.tflite...`: latencies with everything that one needs to know to read them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras import results
from effkeras.commands.options import above_zero, parser
from effkeras.console import run_command, table
from effkeras.errors import EffkerasError
from export.runs import run_of_artifact

if TYPE_CHECKING:
    from effkeras.litert.latency import Latency

COLUMNS = ("file", "kernels", "thr", "min ms", "median", "p95", "delegated")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Threads to try, timed and untimed runs of each, and where the rows go."""

    threads: tuple[int, ...] = (1, 2)
    runs: int = 50
    warmup: int = 10
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Timed:
    """One file under one setting."""

    file: Path
    model: str
    latency: Latency

    def to_row(self) -> results.Row:
        """The measurement as a plain record, kind "latency"."""
        size = self.file.stat().st_size
        own = {"kind": "latency", "model": self.model, "artifact": self.file.name, "bytes": size}
        return {**own, **self.latency.to_row()}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def bench(files: Sequence[Path], options: BenchOptions) -> list[Timed]:
    """Times files with XNNPACK and with the plain kernels, on each number of threads.

    All files and settings take turns, so their figures compare. Rows are added to `options.out`, or to
    the results of the run folder that a file lies in.

    Raises EffkerasError when a file is missing or corrupt.
    """
    from effkeras.litert.latency import Plan, Setting, measure_all
    from effkeras.litert.runner import read_flatbuffer

    settings = [Setting(xnnpack, threads) for xnnpack in (True, False) for threads in options.threads]
    contents = {file: read_flatbuffer(file) for file in files}
    models = {file: _model_name(file, content) for file, content in contents.items()}
    jobs = [(file, setting) for file in files for setting in settings]
    plan = Plan(options.runs, options.warmup)
    latencies = measure_all([(contents[file], setting) for file, setting in jobs], plan)
    timed = [Timed(file, models[file], latency) for (file, _), latency in zip(jobs, latencies, strict=True)]
    _keep(timed, options.out)
    return timed


def _model_name(file: Path, content: bytes) -> str:
    from effkeras.litert.flatbuffer import attached
    from effkeras.litert.runner import DEFINITION, definition_of

    try:
        known = attached(content, DEFINITION) is not None
        return definition_of(content).name if known else file.stem
    except EffkerasError as error:
        raise EffkerasError(f"{file}: {error}") from error


def _keep(timed: Iterable[Timed], out: Path | None) -> None:
    by_file: dict[Path, list[results.Row]] = {}
    for one in timed:
        run = run_of_artifact(one.file)
        target = out or (run / "results.jsonl" if run else None)
        if target is not None:
            by_file.setdefault(target, []).append(results.stamped(one.to_row()))
    for target, rows in by_file.items():
        results.append(target, rows)


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    options = BenchOptions(chosen.threads, chosen.runs, chosen.warmup, chosen.out)
    timed = bench(chosen.files, options)
    environment = results.environment()
    title = (
        f"One inference: {options.runs} runs each after {options.warmup}, taking turns\n"
        f"{environment['machine']['cpu']}, {environment['machine']['cores']} cores; "
        f"ai-edge-litert {environment['versions']['ai-edge-litert']}"
    )
    table(title, COLUMNS, [_cells(one) for one in timed])


def _cells(timed: Timed) -> list[str]:
    latency = timed.latency
    share = latency.delegated
    delegated = f"{share.delegated_ops}/{share.total_ops} in {share.partitions}" if share.partitions else "-"
    figures = [f"{value:.2f}" for value in (latency.min_ms, latency.median_ms, latency.p95_ms)]
    return [
        timed.file.name,
        latency.setting.kernels,
        str(latency.setting.threads),
        *figures,
        delegated,
    ]


def _threads(text: str) -> tuple[int, ...]:
    return tuple(above_zero(part) for part in text.split(","))


def _parser() -> argparse.ArgumentParser:
    options = parser("export bench", "Times .tflite files with XNNPACK and with the plain kernels.")
    options.add_argument("files", nargs="+", type=Path, metavar="F.tflite", help="files to compare")
    options.add_argument("--threads", type=_threads, default=(1, 2), help="such as 1,2 (the default)")
    options.add_argument("--runs", type=above_zero, default=50, help="timed runs of each (default: 50)")
    options.add_argument("--warmup", type=int, default=10, help="untimed runs before them (default: 10)")
    options.add_argument("--out", type=Path, metavar="JSONL", help="add the rows to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
