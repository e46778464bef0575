"""`effkeras list`: the zoo at a glance."""

from __future__ import annotations

from collections.abc import Sequence

from effkeras import zoo
from effkeras.commands.options import parser
from effkeras.console import run_command, table
from effkeras.graph.counting import count


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line a model."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    parser("list", "All models of the zoo, with trainable parameters and multiply-adds.").parse_args(argv)
    table("", ["model", "input", "params", "MACs", "weights"], map(_row, zoo.list_models()))


def _row(name: str) -> list[str]:
    spec = zoo.spec(name)
    counts = count(spec)
    size = "x".join(map(str, spec.input.size))
    weights = ", ".join(spec.weights) or "-"
    return [name, size, f"{counts.trainable / 1e6:.2f} M", f"{counts.macs / 1e9:.3f} G", weights]
