"""`effkeras list`: lists the models of the zoo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.zoo import Family, specs_by_family
from effkeras.graph.counting import cost
from effkeras.support.console import result, run_command, table
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, add_json, parser

VERB = Verb("list", "all models of the zoo, with parameters and MACs")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per model."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    options = parser(VERB.name, "Models of the zoo, with trainable parameters and multiply-adds.")
    options.add_argument("part", nargs="?", default="", help="only models with this in their names")
    add_json(options)
    part = options.parse_args(argv).part
    columns = ["model", "input", "params", "MACs", "weights"]
    found = list(_matching(part))
    if not found:
        raise EffkerasError(f"no model has {part!r} in its name; `effkeras list` shows all")
    for family, specs in found:
        table(family.title, columns, map(_row, specs))
    result(lambda: [_record(spec) for _, specs in found for spec in specs])


def _matching(part: str) -> Iterator[tuple[Family, list[ModelSpec]]]:
    for family, specs in specs_by_family():
        chosen = [spec for spec in specs if part in spec.name]
        if chosen:
            yield family, chosen


def _record(spec: ModelSpec) -> dict[str, Any]:
    parameters, macs = cost(spec)
    return {
        "model": spec.name,
        "family": spec.family,
        "input_size": list(spec.input.size),
        "parameters": parameters,
        "macs": macs,
        "weights": list(spec.weights),
    }


def _row(spec: ModelSpec) -> list[str]:
    parameters, macs = cost(spec)
    size = "x".join(map(str, spec.input.size))
    return [spec.name, size, f"{parameters / 1e6:.2f} M", f"{macs / 1e9:.3f} G", _weights(spec)]


def _weights(spec: ModelSpec) -> str:
    """The first of the named weights, and the number of others that `effkeras weights` shows."""
    first, *more = spec.weights or ["-"]
    return f"{first} +{len(more)}" if more else first
