"""`python -m export.benchmarks.convert`: conversion time of effkeras against TFLiteConverter.

Both make a float32 and an int8 file from the same model and images. They take turns in one process, so that
other load on the machine affects both alike. The result is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support import results
from effkeras.support.console import quiet, run_command, table, track
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, parser

if TYPE_CHECKING:
    import keras
    import numpy as np


@dataclass(frozen=True, slots=True)
class ConvertBenchOptions:
    """The model (random weights), calibration images (random), and how often each conversion is timed."""

    model: str = "efficientdet-lite0"
    size: int | None = None
    images: int = 16
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Conversion:
    """Seconds of each repeat, and the sizes of the int8 files in bytes."""

    options: ConvertBenchOptions
    input_size: tuple[int, int]
    ours: tuple[float, ...]
    plain: tuple[float, ...]
    ours_bytes: int
    plain_bytes: int

    @property
    def ratio(self) -> float:
        """Our median divided by that of TFLiteConverter."""
        return statistics.median(self.ours) / statistics.median(self.plain)

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "conversion"."""
        return {
            "kind": "conversion",
            "model": self.options.model,
            "input_size": list(self.input_size),
            "calibration_images": self.options.images,
            "ours_s": [round(value, 2) for value in self.ours],
            "plain_s": [round(value, 2) for value in self.plain],
            "ratio": round(self.ratio, 3),
            "ours_int8_bytes": self.ours_bytes,
            "plain_int8_bytes": self.plain_bytes,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def time_conversions(options: ConvertBenchOptions) -> Conversion:
    """Times both conversions in turn, `repeats` times. Raises EffkerasError for an unknown model."""
    with quiet():
        from effkeras.building.models import build
        from effkeras.layers.normalize import spec_of
        from export.benchmarks.random_models import random_images
    shape = (options.size, options.size) if options.size else None
    model = build(options.model, input_shape=shape)
    size = spec_of(model).input.size
    pixels = random_images((*size, 3), options.images)
    rounds = [
        (_timed(lambda: _ours(model, pixels)), _timed(lambda: _plain(model, pixels)))
        for _ in track(range(options.repeats), "converting")
    ]
    ours, plain = zip(*rounds, strict=True)
    return Conversion(
        options,
        size,
        tuple(seconds for seconds, _ in ours),
        tuple(seconds for seconds, _ in plain),
        ours[-1][1],
        plain[-1][1],
    )


def _ours(model: keras.Model, pixels: Sequence[np.ndarray]) -> bytes:
    from quantize.formats import find
    from quantize.post_training.options import PtqOptions
    from quantize.post_training.quantization import float_parts, quantize_pixels

    options = PtqOptions(find("int8"))
    parts = float_parts(model, options)
    quantize_pixels(parts, PtqOptions(find("float32")), ())
    return quantize_pixels(parts, options, pixels).flatbuffer


def _plain(model: keras.Model, pixels: Sequence[np.ndarray]) -> bytes:
    with quiet():
        import keras
        import tensorflow as tf

        from effkeras.litert.convert import plain_int8

        still = keras.Input(batch_shape=(1, *model.inputs[0].shape[1:]))
        wrapped = keras.Model(still, model(still))
        tf.lite.TFLiteConverter.from_keras_model(wrapped).convert()
        return plain_int8(tf.lite.TFLiteConverter.from_keras_model(wrapped), pixels)


def _timed(work: Callable[[], bytes]) -> tuple[float, int]:
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, len(made)


def _run(argv: Sequence[str] | None) -> None:
    chosen = vars(_parser().parse_args(argv))
    out = chosen.pop("out")
    if chosen["repeats"] < 3:
        raise EffkerasError("fewer than 3 repeats say nothing; raise --repeats")
    conversion = time_conversions(ConvertBenchOptions(**chosen))
    _print(conversion)
    if out is not None:
        results.append(out, [results.stamped(conversion.to_row())])


def _print(conversion: Conversion) -> None:
    options = conversion.options
    height, width = conversion.input_size
    title = (
        f"{options.model} {height}x{width} to float32 and to int8 "
        f"({options.images} images), {options.repeats} times"
    )
    rows = [
        _cells("effkeras", conversion.ours, conversion.ours_bytes),
        _cells("from_keras_model", conversion.plain, conversion.plain_bytes),
    ]
    table(title, ["way", "median s", "min", "max", "int8 bytes"], rows)
    print(f"ratio of the medians: {conversion.ratio:.2f}")


def _cells(way: str, seconds: Sequence[float], size: int) -> list[str]:
    figures = [statistics.median(seconds), min(seconds), max(seconds)]
    return [way, *(f"{value:.1f}" for value in figures), f"{size:,}"]


def _parser() -> argparse.ArgumentParser:
    options = parser("export convert", "Times our conversion to .tflite against TensorFlow's own way.")
    options.add_argument("--model", default="efficientdet-lite0", help="default: efficientdet-lite0")
    options.add_argument("--size", type=above_zero, help="pixels a side (default: the model's own)")
    options.add_argument("--images", type=above_zero, default=16, help="to calibrate with (default: 16)")
    options.add_argument("--repeats", type=above_zero, default=3, help="at least 3 (default: 3)")
    options.add_argument("--out", type=Path, metavar="JSONL", help="add the row to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
