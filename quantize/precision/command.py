"""`effkeras sensitivity MODEL --data DIR`: ranks layers by their sensitivity to int8, as table and chart."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support import results
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import result, run_command, say
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder, write_bytes, write_text
from effkeras.support.options import (
    MODEL_HELP,
    Verb,
    above_zero,
    add_data,
    add_json,
    add_old_name,
    add_weights,
    parser,
)
from effkeras.training.run import kept_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from effkeras.data.records import ReadOptions
    from quantize.post_training.artifact import FloatParts
    from quantize.precision.sensitivity import LayerSensitivity, Metric, Sensitivity

IMAGES = 16
SHOWN = 20
CHARTED = 30


VERB = Verb("sensitivity", "which layers suffer most from few bits")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    need_tensorflow("quantization")
    from effkeras.building.sources import open_model
    from effkeras.data.records import ReadOptions
    from effkeras.data.splits import read_split
    from quantize.formats import find
    from quantize.post_training.options import PtqOptions, check
    from quantize.post_training.quantization import float_parts, inputs_of
    from quantize.precision.measurements import MeasurementCache, digest
    from quantize.precision.sensitivity import SensitivityOptions, rank

    reading = kept_options(chosen.model, chosen.data, ReadOptions(chosen.skip_bad, False, chosen.one_based))
    data = read_split(chosen.data, "train", reading)
    ptq = PtqOptions(find(chosen.recipe), samples=chosen.samples, seed=chosen.seed)
    check(ptq, data)
    if chosen.out:
        make_folder(chosen.out)
    parts = float_parts(open_model(chosen.model, chosen.weights), ptq)
    metric = _metric(chosen, parts, reading) if chosen.metric else None
    key = digest(parts.flatbuffer, repr(ptq), str(data.root), str((chosen.images, chosen.limit)))
    cache = MeasurementCache(chosen.out / "sensitivity.json" if chosen.out else None, key)
    options = SensitivityOptions(chosen.images, metric)
    found = rank(parts, ptq, inputs_of(parts, ptq, data), options, cache)
    found.show(chosen.top)
    result(found.to_rows())
    if chosen.out:
        _write(found, chosen.out)


def _metric(chosen: argparse.Namespace, parts: FloatParts, reading: ReadOptions) -> Metric:
    from effkeras.data.splits import read_split
    from quantize.precision.measurements import MetricOf

    if parts.spec is None:
        raise EffkerasError(
            f"{chosen.model} carries no definition, so its metric is unknown; leave out --metric"
        )
    data = read_split(chosen.data, "val", replace(reading, masks=parts.spec.segments))
    return MetricOf(data, chosen.limit).headline


def _write(found: Sensitivity, out: Path) -> None:
    table_file, image = out / "sensitivity.jsonl", out / "sensitivity.png"
    rows = [json.dumps(results.stamped(row)) for row in found.to_rows()]
    write_text(table_file, "".join(f"{row}\n" for row in rows))  # in place of an earlier table, at once
    write_bytes(image, chart(found))
    say(f"{image}: written, with {table_file.name} beside it")


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Ranks the layers of a model by what quantizing each alone does.")
    options.add_argument("model", help=MODEL_HELP)
    add_data(options)
    options.add_argument("--recipe", default="int8", help="what is done to a layer (default: int8)")
    options.add_argument(
        "--images", type=above_zero, default=IMAGES, help=f"outputs compared on (default: {IMAGES})"
    )
    add_old_name(options, "--pictures", "--images")
    options.add_argument("--samples", type=above_zero, default=128, help="calibration images (default: 128)")
    options.add_argument("--seed", type=int, default=0, help="which images calibrate (default: 0)")
    options.add_argument("--metric", action="store_true", help="measure the metric too, on the split val")
    options.add_argument("--limit", type=above_zero, help="with --metric: on the first LIMIT images only")
    options.add_argument("--top", type=above_zero, default=SHOWN, help=f"layers to print (default: {SHOWN})")
    add_weights(options)
    options.add_argument("--out", type=Path, metavar="DIR", help="rows and an image; resumes from there")
    add_json(options)
    return options


_INK, _FAINT, _BAR, _LIGHT_BAR = "#1f2933", "#6b7580", "#2a6fbb", "#b9cfe6"


def chart(found: Sensitivity, most: int = CHARTED) -> bytes:
    """A PNG chart of the `most` sensitive layers.

    Dark bars are layers with weights. Raises EffkerasError if matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EffkerasError("the image needs matplotlib; pip install 'effkeras[report]'") from error
    shown = found.layers[:most]
    figure = Figure(figsize=(8.4, 1.5 + 0.25 * len(shown)), dpi=144, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw(axes, shown)
    axes.set_title(
        f"{found.model}: one layer at a time as {found.recipe}", loc="left", color=_INK, fontsize=12
    )
    figure.text(0.995, 0.004, "light: layers without weights", ha="right", color=_FAINT, fontsize=8)
    axes.set_xlabel(
        f"error / standard deviation of the outputs, {found.images} images  "
        f"(all layers together: {found.error:.3g})",
        color=_FAINT,
        fontsize=9,
    )
    stream = io.BytesIO()
    canvas.print_png(stream)
    return stream.getvalue()


def _draw(axes: Axes, shown: tuple[LayerSensitivity, ...]) -> None:
    errors = [one.error for one in shown]
    colours = [_BAR if one.macs else _LIGHT_BAR for one in shown]
    bars = axes.barh(range(len(shown)), errors, color=colours, height=0.72)
    axes.bar_label(bars, [_label(one) for one in shown], padding=4, fontsize=8, color=_FAINT)
    axes.set_yticks(range(len(shown)), [one.name for one in shown], fontsize=8.5, color=_INK)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, max([*errors, 1e-12]) * 1.18)
    axes.tick_params(colors=_FAINT, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _label(one: LayerSensitivity) -> str:
    return f"{one.error:.3g}" + ("" if one.drop is None else f"   drop {one.drop:.3f}")
