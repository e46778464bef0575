"""`effkeras list`: the zoo at a glance."""

from __future__ import annotations

from collections.abc import Sequence

from effkeras import zoo
from effkeras.commands.options import parser
from effkeras.console import run_command, table
from effkeras.definition import ModelSpec
from effkeras.graph.counting import count


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line a model."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    parser("list", "All models of the zoo, with trainable parameters and multiply-adds.").parse_args(argv)
    columns = ["model", "input", "params", "MACs", "weights"]
    for family, specs in zoo.specs_by_family():
        if specs:
            table(family.title, columns, map(_row, specs))


def _row(spec: ModelSpec) -> list[str]:
    counts = count(spec)
    size = "x".join(map(str, spec.input.size))
    weights = ", ".join(spec.weights) or "-"
    return [spec.name, size, f"{counts.trainable / 1e6:.2f} M", f"{counts.macs / 1e9:.3f} G", weights]
