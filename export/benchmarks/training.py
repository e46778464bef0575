"""`python -m export.benchmarks.training`: CPU time of a training step with the fused batch normalisation.

A step is the forward and the backward pass. Each network takes its steps with Keras's batch normalisation and
with ours in turn, in one process. The result is the ratio of the medians of CPU time, which other load on the
machine hardly affects.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.support import results
from effkeras.support.console import quiet, run_command, table, track
from effkeras.support.options import above_zero, parser


@dataclass(frozen=True, slots=True)
class Network:
    """A model, its input's side in pixels and the images of a step."""

    model: str
    side: int
    batch: int


NETWORKS = (
    Network("efficientdet-lite0", 320, 8),
    Network("efficientdet-d0", 256, 8),
    Network("efficientnet-b0", 224, 16),
)


@dataclass(frozen=True, slots=True)
class Steps:
    """CPU seconds of each step of a network, with Keras's batch normalisation and with ours."""

    network: Network
    keras_s: tuple[float, ...]
    ours_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Our median divided by Keras's."""
        return statistics.median(self.ours_s) / statistics.median(self.keras_s)

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "training step"."""
        return {
            "kind": "training step",
            "model": self.network.model,
            "input_size": [self.network.side] * 2,
            "batch": self.network.batch,
            "against": "keras.layers.BatchNormalization",
            "ours_cpu_s": [round(one, 4) for one in self.ours_s],
            "theirs_cpu_s": [round(one, 4) for one in self.keras_s],
            "ratio": round(self.ratio, 3),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def time_steps(network: Network, repeats: int) -> Steps:
    """Takes steps with both batch normalisations in turn, after one of each that is not timed."""
    with quiet():
        import keras

        from effkeras.layers import BatchNormalization
    ways = [_step_of(network, kind) for kind in (keras.layers.BatchNormalization, BatchNormalization)]
    pairs = [tuple(_timed(way) for way in ways) for _ in range(repeats + 1)]
    theirs, ours = zip(*pairs[1:], strict=True)
    return Steps(network, theirs, ours)


def _step_of(network: Network, norm: type) -> Callable[[], Any]:
    """A compiled step: the gradients of all weights for the mean square of the outputs."""
    import tensorflow as tf

    import effkeras
    from effkeras.layers.batch_norm import norms_of

    model = effkeras.build(network.model, input_shape=(network.side, network.side))
    for layer in norms_of(model):
        layer.__class__ = norm
    weights = [variable.value for variable in model.trainable_weights]
    pixels = tf.random.stateless_uniform((network.batch, network.side, network.side, 3), (0, 0), 0, 255)

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(pixels, training=True))
            loss = sum(tf.reduce_mean(tf.square(output)) for output in outputs)
        return tape.gradient(loss, weights)

    return step  # type: ignore[no-any-return]


def _timed(step: Callable[[], Any]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    measured = [time_steps(network, chosen.repeats) for network in track(NETWORKS, "training")]
    rows = [
        [
            f"{one.network.model}, {one.network.side} px, batch {one.network.batch}",
            *(_shown(values) for values in (one.ours_s, one.keras_s)),
            f"{one.ratio:.2f}",
        ]
        for one in measured
    ]
    table("CPU seconds of a training step: median (range)", ["network", "ours", "Keras's", "ratio"], rows)
    if chosen.out:
        results.append(chosen.out, [results.stamped(one.to_row()) for one in measured])


def _shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _parser() -> argparse.ArgumentParser:
    options = parser("training", "Measures the CPU time of training steps.")
    options.prog = "python -m export.benchmarks.training"
    options.add_argument("--repeats", type=above_zero, default=9, help="timed steps (default: 9)")
    options.add_argument("--out", type=Path, metavar="JSONL", help="the file to append the measurements to")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
