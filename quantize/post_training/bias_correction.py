"""Bias correction: changes biases to undo the shift of a layer's mean output that rounded weights cause.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2. Here
the input means are measured on images instead of derived from batch normalisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.litert.flatbuffer import Operator, TensorInfo, operators, real_constants
from effkeras.litert.rewriting import with_constants
from quantize.post_training.activations import observe

_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, slots=True)
class _Pair:
    """An operator with weights in the float model, and the same operator in the quantized model."""

    exact: Operator
    quantized: Operator

    @property
    def bias(self) -> TensorInfo:
        return self.quantized.inputs[2]


def corrected(exact: bytes, quantized: bytes, means: Mapping[str, np.ndarray]) -> bytes:
    """A quantized model whose biases compensate the mean shift that rounding the weights causes.

    All layers are corrected at once, each for the shift that it causes itself. This uses the float model's
    input means, because a corrected layer passes no shift on to the next.

    Args:
        exact: the float .tflite.
        quantized: the quantized .tflite; operators are matched by the names of their outputs.
        means: the channel means of the float model's activations, from `channel_means`.
    """
    pairs = list(_pairs(operators(exact), operators(quantized)))
    weights = real_constants(exact, [pair.exact.inputs[1].index for pair in pairs])
    rounded = real_constants(quantized, [pair.quantized.inputs[1].index for pair in pairs])
    biases = real_constants(quantized, [pair.bias.index for pair in pairs])
    new = {}
    for pair in pairs:
        error = rounded[pair.quantized.inputs[1].index].values - weights[pair.exact.inputs[1].index].values
        shift = _shift(error, means[pair.exact.inputs[0].name], pair.exact.name)
        old = biases[pair.bias.index]
        new[pair.bias.index] = old.codes_of(old.values - shift)
    return with_constants(quantized, new)


def _pairs(exact: Iterable[Operator], quantized: Iterable[Operator]) -> Iterator[_Pair]:
    by_output = {op.outputs[0].name: op for op in exact if op.name in _WITH_WEIGHTS}
    for op in quantized:
        original = by_output.get(op.outputs[0].name)
        has_all = original is not None and op.name == original.name and len(op.inputs) == 3
        if has_all and op.inputs[1].is_constant and op.inputs[2].is_constant:
            yield _Pair(original, op)  # type: ignore[arg-type]


def channel_means(exact: bytes, inputs: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The mean of each input channel of layers with weights over all images: float64 (C,) by tensor name.

    Args:
        exact: the float .tflite.
        inputs: its inputs, float32 (1, H, W, C) each; iterated more than once.
    """
    names = {op.inputs[0].name for op in operators(exact) if op.name in _WITH_WEIGHTS}
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for seen in observe(exact, inputs, names):
        means = seen.values.reshape(-1, seen.values.shape[-1]).mean(axis=0, dtype=np.float64)
        sums[seen.name] = sums.get(seen.name, 0) + means
        counts[seen.name] = counts.get(seen.name, 0) + 1
    return {name: total / counts[name] for name, total in sums.items()}


def _shift(error: np.ndarray, means: np.ndarray, op: str) -> np.ndarray:
    """The shift of each output channel's mean that an error of the weights causes, float64.

    Weights are (out, h, w, in), for depthwise layers (1, h, w, out), for dense layers (out, in). Borders are
    treated like the inside.
    """
    if op == "DEPTHWISE_CONV_2D":
        taps = error.sum(axis=(0, 1, 2), dtype=np.float64)
        return taps * np.repeat(means, len(taps) // len(means))
    taps = error.reshape(len(error), -1, error.shape[-1]).sum(axis=1, dtype=np.float64)
    groups = len(means) // taps.shape[1]
    return np.concatenate(
        [part @ mean for part, mean in zip(np.split(taps, groups), np.split(means, groups), strict=True)]
    )
