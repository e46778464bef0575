"""`python -m export.benchmarks.rate`: EfficientDet-Lite0's MACs/s against the best convolution's.

The best rate is that of the fastest of a few plain convolutions on XNNPACK with one thread, in the same run.
A network also moves data, adds and resizes, and its depthwise convolutions do little arithmetic per byte, so
it cannot reach the full rate. The share shows how much there is to gain at most.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support import results
from effkeras.support.console import note, quiet, run_command, table
from effkeras.support.options import above_zero, parser

if TYPE_CHECKING:
    import keras

    from effkeras.support.measurements import Latency

RECIPES = ("float32", "int8")
MODEL = "efficientdet-lite0"


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution on `side` x `side` pixels with equal numbers of input and output channels."""

    side: int
    channels: int
    kernel: int

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel}, {self.side}x{self.side}x{self.channels}"


# Pointwise and 3x3 convolutions that fit into the cache.
CONVOLUTIONS = (
    Convolution(16, 256, 1),
    Convolution(32, 128, 1),
    Convolution(32, 256, 1),
    Convolution(16, 128, 3),
    Convolution(32, 64, 3),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """The name, recipe, multiply-adds and latency of one network or convolution."""

    name: str
    recipe: str
    macs: int
    latency: Latency

    @property
    def giga(self) -> float:
        """Giga multiply-adds per second in the fastest run."""
        return self.macs / self.latency.min_ms / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def rates(recipe: str, runs: int) -> list[Rate]:
    """The rates of the network (first) and of every convolution; all take turns."""
    from effkeras.litert.flatbuffer import multiply_adds, operators
    from effkeras.litert.latency import InterpreterOptions, Plan, measure_all
    from export.benchmarks.random_models import artifacts_on_random_images

    named = {name: artifacts_on_random_images(model, [recipe])[recipe] for name, model in _models()}
    jobs = [(content, InterpreterOptions(xnnpack=True, threads=1)) for content in named.values()]
    latencies = measure_all(jobs, Plan(runs, warmup=5), f"timing {recipe}")
    return [
        Rate(name, recipe, sum(map(multiply_adds, operators(content))), latency)
        for (name, content), latency in zip(named.items(), latencies, strict=True)
    ]


def row_of(found: Sequence[Rate]) -> results.Row:
    """The measurement as a plain record of kind "rate"."""
    network, *convolutions = found
    best = max(convolutions, key=lambda rate: rate.giga)
    return {
        "kind": "rate",
        "model": network.name,
        "recipe": network.recipe,
        "macs": network.macs,
        "giga_macs_per_s": round(network.giga, 2),
        "best_giga_macs_per_s": round(best.giga, 2),
        "best": best.name,
        "share": round(network.giga / best.giga, 3),
        **network.latency.to_row(),
    }


def _models() -> Iterator[tuple[str, keras.Model]]:
    with quiet():
        import effkeras

        yield MODEL, effkeras.build(MODEL)
        for convolution in CONVOLUTIONS:
            yield str(convolution), _alone(convolution)


def _alone(convolution: Convolution) -> keras.Model:
    import keras

    shape = (convolution.side, convolution.side, convolution.channels)
    layer = keras.layers.Conv2D(convolution.channels, convolution.kernel, padding="same", activation="relu6")
    return keras.Sequential([keras.Input(shape), layer])


def _run(argv: Sequence[str] | None) -> None:
    chosen = _options(argv)
    for recipe in RECIPES:
        note(f"converting for {recipe}")
        found = rates(recipe, chosen.runs)
        results.append(chosen.out, [results.stamped(row_of(found))])
        cells = [
            [one.name, f"{one.macs / 1e6:.0f}", f"{one.latency.min_ms:.2f}", f"{one.giga:.1f}"]
            for one in found
        ]
        table(f"{recipe}, XNNPACK, 1 thread", ["what", "M MACs", "min ms", "G MACs/s"], cells)
        print(f"{MODEL} reaches {row_of(found)['share']:.0%} of the best rate")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser("rate-bench", "Puts EfficientDet-Lite0 beside this machine's best convolution rate.")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    options.add_argument("--runs", type=above_zero, default=50, help="timed runs of each (default: 50)")
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
