"""`python -m export.benchmarks.size`: sizes of int8 EfficientDet-Lite files.

Untrained batch norms are identical, which makes the heads of all levels identical; trained ones differ. So
scales and statistics are drawn at random here. Sizes depend on nothing else; accuracy is not measured.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effkeras.support import results
from effkeras.support.console import note, quiet, run_command, table
from effkeras.support.options import parser

# The largest allowed size of a model's int8 file in bytes.
GOALS = {"efficientdet-lite0": 4_150_000, "efficientdet-lite4": 16_500_000}
COLUMNS = ("model", "float32", "int8", "int8 at most", "")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def size_row(name: str) -> results.Row:
    """The sizes of a model's float32 and int8 artifacts as a plain record of kind "size"."""
    with quiet():
        import effkeras
        from export.benchmarks.random_models import artifacts_on_random_images, draw_statistics

        model = effkeras.build(name)
        draw_statistics(model)
    made = artifacts_on_random_images(model, ("float32", "int8"))
    return {
        "kind": "size",
        "model": name,
        "parameters": model.count_params(),
        "float32_bytes": len(made["float32"]),
        "int8_bytes": len(made["int8"]),
    }


def keeps(row: Mapping[str, Any]) -> bool:
    """Whether the int8 file of a row of kind "size" is within its goal in `GOALS`."""
    return row["int8_bytes"] <= GOALS[row["model"]]


def _run(argv: Sequence[str] | None) -> None:
    options = parser("size-bench", "Measures the sizes of int8 EfficientDet-Lite files.")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    chosen = options.parse_args(argv)
    rows = []
    for name in GOALS:
        note(f"converting {name}")
        rows.append(results.stamped(size_row(name)))
    results.append(chosen.out, rows)
    table("bytes", COLUMNS, map(_cells, rows))


def _cells(row: Mapping[str, Any]) -> list[str]:
    sizes = (row["float32_bytes"], row["int8_bytes"], GOALS[row["model"]])
    return [row["model"], *(f"{size:,}" for size in sizes), "kept" if keeps(row) else "missed"]


if __name__ == "__main__":
    sys.exit(main())
