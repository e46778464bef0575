"""`python -m export.benchmarks.digits`: the figures of the shipped models in docs/compression.md.

Exports both digits models with every recipe, measures the accuracy of each file on the 1,000 test images and
its latency, and appends the rows to `models/results.jsonl`. `markdown` turns them into that page's table.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from effkeras.data.digits import DigitsOptions, write_digits
from effkeras.support import results
from effkeras.support.console import note, run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.options import parser

MODELS = ("efficientdet-digits", "efficientnet-digits")
RECIPES = ("float32", "fp16", "dynamic", "int8")
HEADER = (
    "| model | artifact | metric | float | artifact | drop | kB | XNNPACK, 1 thread, ms (min / median / p95) "
    "| delegated |\n|---|---|---|---|---|---|---|---|---|"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints the table."""
    return run_command(lambda: _run(argv))


def newest(rows: Sequence[results.Row], kind: str, model: str, recipe: str) -> results.Row | None:
    """The last row of a kind for a model's artifact; a latency row must be XNNPACK with one thread."""
    found = [
        row
        for row in rows
        if (row["kind"], row.get("model"), row.get("artifact")) == (kind, model, f"{recipe}.tflite")
        and (kind != "latency" or (row["kernels"], row["threads"]) == ("XNNPACK", 1))
    ]
    return found[-1] if found else None


def markdown(rows: Sequence[results.Row]) -> str:
    """A Markdown table of all shipped artifacts, from rows of kind "export" and "latency"."""
    return "\n".join([HEADER, *_lines(rows)])


def _lines(rows: Sequence[results.Row]) -> Iterator[str]:
    for model in MODELS:
        for recipe in RECIPES:
            made = newest(rows, "export", model, recipe)
            timed = newest(rows, "latency", model, recipe)
            if made is None or timed is None:
                raise EffkerasError(f"no figures for {model} as {recipe}; run `make bench`")
            yield _line(made, timed)


def _line(made: results.Row, timed: results.Row) -> str:
    metric = made["metric"]
    times = " / ".join(f"{timed[key]:.2f}" for key in ("min_ms", "median_ms", "p95_ms"))
    cells = [
        made["model"],
        made["recipe"],
        metric,
        f"{made['float_metrics'][metric]:.3f}",
        f"{made['artifact_metrics'][metric]:.3f}",
        f"{round(made['drop'], 4) + 0:+.4f}",
        f"{made['bytes'] / 1000:.0f}",
        times,
        f"{made['delegated_ops']} of {made['total_ops']} ops",
    ]
    return f"| {' | '.join(cells)} |"


def _run(argv: Sequence[str] | None) -> None:
    options = parser("digits-bench", "Measures the shipped models in every recipe.")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    options.add_argument("--data", type=Path, default=Path("data"), help="where the digits are drawn")
    chosen = options.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            _measure(model, _digits(chosen.data, model), Path(folder) / model, chosen.out)
    print(markdown(results.read(chosen.out)))


def _digits(root: Path, model: str) -> Path:
    folder = root / f"bench-{model}"
    write_digits(folder, DigitsOptions(train=400, val=50, classify=model == "efficientnet-digits"))
    return folder


def _measure(model: str, data: Path, folder: Path, out: Path) -> None:
    from export.bench import BenchOptions, bench
    from export.tflite import ExportOptions, export_tflite

    files = []
    for recipe in RECIPES:
        note(f"{model}: {recipe}")
        file = folder / f"{recipe}.tflite"
        options = ExportOptions(recipe=recipe, data=data, weights="digits", out=file)
        report = export_tflite(model, options)
        results.append(out, [results.stamped(report.to_row())])
        files.append(file)
    bench(files, BenchOptions(runs=200, warmup=20, out=out))


if __name__ == "__main__":
    sys.exit(main())
