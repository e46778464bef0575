"""`python -m quantize.precision.sensitivity MODEL --data DIR`: which layers suffer most from 8 bits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras import results
from effkeras.console import run_command, table, track
from effkeras.errors import EffkerasError
from effkeras.files import make_folder, write_bytes
from effkeras.options import MODEL_HELP, above_zero, add_data, add_weights, parser

if TYPE_CHECKING:
    import keras
    import numpy as np

    from quantize.post_training.calibration import Calibration
    from quantize.post_training.quantization import FloatParts, PtqOptions
    from quantize.precision.memory import Memory
    from quantize.precision.partial import Partial
    from quantize.precision.units import Unit

PICTURES = 16
SHOWN = 20
ERROR_IS = "error / std of the outputs"

# The metric of an artifact, the higher the better.
Judge = Callable[[bytes], float]


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """What one layer alone in few bits does to the outputs.

    `ops` are its operators in the artifact, `macs` its multiply-adds. `error` is the root mean square error
    of the outputs as a share of their standard deviation; `drop` what the metric loses, if it was measured.
    """

    name: str
    ops: tuple[str, ...]
    macs: int
    error: float
    drop: float | None = None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """All layers of a model, the most sensitive first; `error` is that of the whole model quantized."""

    model: str
    recipe: str
    pictures: int
    error: float
    layers: tuple[LayerSensitivity, ...]

    def to_rows(self) -> list[results.Row]:
        """A plain record for each layer, kind "sensitivity"."""
        own = {"kind": "sensitivity", "model": self.model, "recipe": self.recipe, "pictures": self.pictures}
        rows: list[results.Row] = []
        for rank, one in enumerate(self.layers, start=1):
            layer = {"layer": one.name, "ops": list(one.ops), "macs": one.macs, "error": one.error}
            rows.append({**own, "rank": rank, **layer, "drop": one.drop, "error_of_all": self.error})
        return rows

    def show(self, most: int = SHOWN) -> None:
        """Prints the `most` sensitive layers."""
        total = max(sum(one.macs for one in self.layers), 1)
        measured = any(one.drop is not None for one in self.layers)
        columns = ("layer", "ops", "error", "% MACs", *(("drop",) if measured else ()))
        rows = []
        for one in self.layers[:most]:
            drop = [] if one.drop is None else [f"{one.drop:.4f}"]
            rows.append(
                [one.name, str(len(one.ops)), f"{one.error:.4f}", f"{100 * one.macs / total:.2f}", *drop]
            )
        title = (
            f"{self.model}: one layer at a time as {self.recipe}, {self.pictures} pictures; all of it: "
            f"{self.error:.4f}\n{ERROR_IS}; the worst {len(rows)} of {len(self.layers)} layers"
        )
        table(title, columns, rows)


@dataclass(frozen=True, slots=True)
class SensitivityOptions:
    """How many pictures the outputs are compared on, and how artifacts are judged, if they are."""

    pictures: int = PICTURES
    judge: Judge | None = None


def sensitivity(
    model: keras.Model,
    data: Calibration,
    recipe: str = "int8",
    *,
    options: SensitivityOptions | None = None,
    ptq: PtqOptions | None = None,
    memory: Memory | None = None,
) -> Sensitivity:
    """Ranks the layers of a model by what quantizing each of them alone does to the outputs.

    Args:
        model: any functional Keras model that takes one picture.
        data: what ranges are measured on and outputs compared on; see `quantize.ptq`.
        recipe: what is done to a layer; one with integer activations or weights.
        options: how many pictures, and a metric to judge by as well.
        ptq: how the model is quantized, in place of `recipe` with its defaults.
        memory: results kept so far; the search goes on from them.

    Raises:
        EffkerasError: as `quantize.ptq`, or a recipe that quantizes nothing.
    """
    from quantize.post_training.quantization import PtqOptions, check, float_parts, inputs_of
    from quantize.recipes import find

    ptq = replace(ptq or PtqOptions(find(recipe)), io="float32")  # outputs are compared as they are
    check(ptq, data)
    parts = float_parts(model, ptq, data)
    return rank(parts, ptq, inputs_of(parts, ptq, data), options or SensitivityOptions(), memory)


def rank(
    parts: FloatParts,
    ptq: PtqOptions,
    pixels: Iterable[np.ndarray],
    options: SensitivityOptions,
    memory: Memory | None = None,
) -> Sensitivity:
    """`sensitivity` of a float conversion, with pictures given as it takes them."""
    from quantize.precision.memory import Memory
    from quantize.precision.partial import Partial

    partial = Partial.of(parts, ptq, pixels, options.pictures)
    return ranked(partial, options, memory if memory is not None else Memory())


def ranked(partial: Partial, options: SensitivityOptions, memory: Memory) -> Sensitivity:
    """`sensitivity` with ranges measured already."""
    parts, ptq, units = partial.parts, partial.options, partial.units
    if not units:
        raise EffkerasError(f"the recipe {ptq.recipe.name} quantizes no layer of {parts.model.name}")
    before = options.judge(partial.unquantized()) if options.judge else None
    layers = [
        _measured(partial, unit, options.judge, before, memory) for unit in track(units, "layer by layer")
    ]
    layers.sort(key=lambda one: (-one.error, one.name))
    name = parts.spec.name if parts.spec else parts.model.name
    shown = len(partial.reference.inputs)
    return Sensitivity(name, ptq.recipe.name, shown, partial.reference(partial.only(None)), tuple(layers))


def _measured(
    partial: Partial, unit: Unit, judge: Judge | None, before: float | None, memory: Memory
) -> LayerSensitivity:
    name = f"sensitivity: {unit.name}" + (", judged" if judge else "")
    if name not in memory:
        error = partial.reference(partial.only(unit.scopes))
        drop = None if judge is None or before is None else before - judge(partial.only_whole(unit.scopes))
        memory[name] = [error, drop]
    error, drop = memory[name]
    return LayerSensitivity(unit.name, unit.ops, unit.macs, error, drop)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    from effkeras.data.splits import open_data
    from effkeras.sources import open_model
    from quantize.post_training.quantization import PtqOptions, check, float_parts, inputs_of
    from quantize.precision.memory import Memory, digest
    from quantize.recipes import find

    data = open_data(chosen.data, "train", skip_bad=chosen.skip_bad)
    ptq = PtqOptions(find(chosen.recipe), samples=chosen.samples, seed=chosen.seed)
    check(ptq, data)
    if chosen.out:
        make_folder(chosen.out)
    parts = float_parts(open_model(chosen.model, chosen.weights), ptq)
    judge = _judge(chosen, parts) if chosen.metric else None
    key = digest(parts.flatbuffer, repr(ptq), str(data.root), str((chosen.pictures, chosen.limit)))
    memory = Memory(chosen.out / "sensitivity.json" if chosen.out else None, key)
    options = SensitivityOptions(chosen.pictures, judge)
    found = rank(parts, ptq, inputs_of(parts, ptq, data), options, memory)
    found.show(chosen.top)
    if chosen.out:
        _write(found, chosen.out)


def _judge(chosen: argparse.Namespace, parts: FloatParts) -> Judge:
    from effkeras.data.splits import open_data
    from quantize.precision.judging import MetricOf

    if parts.spec is None:
        raise EffkerasError(
            f"{chosen.model} carries no definition, so its metric is unknown; leave out --metric"
        )
    data = open_data(chosen.data, "val", skip_bad=chosen.skip_bad, masks=parts.spec.segments)
    return MetricOf(data, chosen.limit).headline


def _write(found: Sensitivity, out: Path) -> None:
    from quantize.precision.chart import chart

    table_file, picture = out / "sensitivity.jsonl", out / "sensitivity.png"
    table_file.unlink(missing_ok=True)
    results.append(table_file, [results.stamped(row) for row in found.to_rows()])
    write_bytes(picture, chart(found))
    print(f"{picture}: written, with {table_file.name} beside it")


def _parser() -> argparse.ArgumentParser:
    options = parser("sensitivity", "Ranks the layers of a model by what quantizing each alone does.")
    options.add_argument("model", help=MODEL_HELP)
    add_data(options)
    options.add_argument("--recipe", default="int8", help="what is done to a layer (default: int8)")
    options.add_argument(
        "--pictures", type=above_zero, default=PICTURES, help=f"outputs compared on (default: {PICTURES})"
    )
    options.add_argument(
        "--samples", type=above_zero, default=128, help="calibration pictures (default: 128)"
    )
    options.add_argument("--seed", type=int, default=0, help="which pictures calibrate (default: 0)")
    options.add_argument("--metric", action="store_true", help="measure the metric too, on the split val")
    options.add_argument("--limit", type=above_zero, help="with --metric: on the first LIMIT pictures only")
    options.add_argument("--top", type=above_zero, default=SHOWN, help=f"layers to print (default: {SHOWN})")
    add_weights(options)
    options.add_argument("--out", type=Path, metavar="FOLDER", help="rows and a picture; resumes from there")
    return options


if __name__ == "__main__":
    sys.exit(main())
