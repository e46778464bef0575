"""`effkeras scale [MODEL]`: parameters and MACs of a model under compound scaling."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.scaling import PAPER, SIZE_MULTIPLE, TOLERANCE, Coefficients, finite, grid, with_phi
from effkeras.graph.counting import count
from effkeras.support.console import hint, note, result, run_command, say, table
from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text
from effkeras.support.options import Verb, above_zero, add_json, add_old_name, parser

_STEPS = tuple(map(float, range(8)))

BASE = "efficientnet-b0"  # the model that the papers scale


VERB = Verb("scale", "a model scaled by phi, with parameters and MACs")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table of scaled models, or the grid of coefficients."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    spec = zoo.spec(chosen.model)
    _check(chosen, spec)
    if chosen.grid:
        _show_grid(spec, chosen.tolerance, chosen.size_multiple)
        return
    scaled = {phi: _scaled(spec, phi, chosen) for phi in chosen.phi or _STEPS}
    columns = ["phi", "depth", "width", "input", *(["BiFPN", "head"] if spec.is_detector else [])]
    rows = ([f"{phi:g}", *_shape(one), *_costs(one, spec)] for phi, one in scaled.items())
    table(_title(spec, _coefficients(chosen)), [*columns, "params", "MACs", "x base"], rows)
    result(lambda: [{"phi": phi, **_record(one)} for phi, one in scaled.items()])
    if chosen.out:
        write_text(chosen.out, scaled[chosen.phi[0]].to_toml())
        note(f"{chosen.out} written; it is a model")
        hint(f"effkeras info {shlex.quote(str(chosen.out))}")


def _show_grid(spec: ModelSpec, tolerance: float, multiple: int) -> None:
    triples = grid(finite("tolerance", tolerance))
    if not triples:
        raise EffkerasError(f"no triple is within {tolerance:g} of 2; give a larger --tolerance")
    models = {triple: with_phi(spec, 1, triple, multiple) for triple in triples}
    triples = sorted(triples, key=lambda triple: count(models[triple]).macs)
    rows = ([*_figures(triple), _size(models[triple]), *_costs(models[triple], spec)] for triple in triples)
    title = (
        f"{spec.name} at phi 1: {len(triples)} triples within {tolerance:g} of alpha * beta^2 * gamma^2 = 2"
    )
    table(title, ["alpha", "beta", "gamma", "product", "input", "params", "MACs", "x base"], rows)
    result(
        lambda: [
            {
                **dict(zip(("alpha", "beta", "gamma"), (one.alpha, one.beta, one.gamma), strict=True)),
                "product": one.cost,
                **_record(models[one]),
            }
            for one in triples
        ]
    )
    say("* the paper's triple. What a model costs differs from the product, because its")
    say("  channels, repeats and sides are rounded.")


def _record(spec: ModelSpec) -> dict[str, Any]:
    counts = count(spec)
    return {"input_size": list(spec.input.size), "parameters": counts.trainable, "macs": counts.macs}


def _figures(triple: Coefficients) -> Iterator[str]:
    yield f"{triple.alpha:.2f}" + ("*" if triple == PAPER else "")
    yield f"{triple.beta:.2f}"
    yield f"{triple.gamma:.2f}"
    yield f"{triple.cost:.3f}"


def _shape(spec: ModelSpec) -> Iterator[str]:
    yield from spec.network.scale_columns()
    yield _size(spec)
    if spec.fpn is not None and spec.head is not None:
        yield f"{spec.fpn.channels} x {spec.fpn.cells}"
        yield str(spec.head.repeats)


def _costs(spec: ModelSpec, base: ModelSpec) -> Iterator[str]:
    counts = count(spec)
    yield f"{counts.trainable / 1e6:,.2f} M"
    yield f"{counts.macs / 1e9:,.3f} G" if counts.macs < 100e9 else f"{counts.macs / 1e9:,.1f} G"
    yield f"{counts.macs / count(base).macs:.2f}"


def _size(spec: ModelSpec) -> str:
    height, width = spec.input.size
    return str(height) if height == width else f"{height}x{width}"


def _title(spec: ModelSpec, factors: Coefficients) -> str:
    network = f"{factors.alpha:g}^phi deep, {factors.beta:g}^phi wide"
    if spec.is_detector:
        return f"{spec.name} by EfficientDet's law; backbone {network}"
    return f"{spec.name}, {network}, {factors.gamma:g}^phi larger images"


def _scaled(spec: ModelSpec, phi: float, chosen: argparse.Namespace) -> ModelSpec:
    return with_phi(spec, phi, _coefficients(chosen), chosen.size_multiple)


def _coefficients(chosen: argparse.Namespace) -> Coefficients:
    given = (chosen.alpha, chosen.beta, chosen.gamma)
    paper = (PAPER.alpha, PAPER.beta, PAPER.gamma)
    return Coefficients(*(own if mine is None else mine for mine, own in zip(given, paper, strict=True)))


def _check(chosen: argparse.Namespace, spec: ModelSpec) -> None:
    if spec.is_detector and (chosen.grid or chosen.gamma is not None):
        option = "--grid" if chosen.grid else "--gamma"
        raise EffkerasError(f"{option} is for classifiers: a detector's input follows EfficientDet's law")
    given = [name for name in ("phi", "alpha", "beta", "gamma", "out") if getattr(chosen, name) is not None]
    if chosen.grid and given:
        raise EffkerasError(f"--grid tries all triples at phi 1; leave --{given[0]} out")
    if chosen.out and chosen.out.suffix != ".toml":
        raise EffkerasError(f"--out {chosen.out} must end in .toml, by which a definition is known")
    if chosen.out and len(chosen.phi or ()) != 1:
        raise EffkerasError("--out writes one model; give one --phi beside it")


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name,
        "Compound scaling: depth, width and images grow together with phi, from the model given. "
        "(b1 to b7 and d1 to d7 of the zoo are what the authors chose near this law.)",
    )
    options.add_argument(
        "model", nargs="?", default=BASE, help=f"a name of `effkeras list`, or a TOML file (default: {BASE})"
    )
    options.add_argument("--phi", type=float, nargs="+", metavar="P", help="steps (default: 0 to 7)")
    options.add_argument("--alpha", type=float, help=f"depth per step (default: {PAPER.alpha})")
    options.add_argument("--beta", type=float, help=f"width per step (default: {PAPER.beta})")
    options.add_argument("--gamma", type=float, help=f"resolution per step (default: {PAPER.gamma})")
    options.add_argument(
        "--size-multiple",
        type=above_zero,
        default=SIZE_MULTIPLE,
        metavar="N",
        help=f"sides become multiples of N pixels (default: {SIZE_MULTIPLE})",
    )
    options.add_argument(
        "--grid", action="store_true", help="list the triples with alpha * beta^2 * gamma^2 near 2 instead"
    )
    options.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help=f"how near (default: {TOLERANCE}; the paper's triple is 0.08 below 2)",
    )
    options.add_argument(
        "--out", type=Path, metavar="FILE", help="write the model of one --phi as a definition (.toml)"
    )
    add_old_name(options, "--toml", "--out")
    add_json(options)
    return options
