"""Bias correction: rounding weights shifts the mean of a layer's outputs, and its bias can shift it back.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with
the means of the inputs measured on images instead of derived from batch normalisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.litert.flatbuffer import Operator, TensorInfo, operators, real_constants, with_constants
from quantize.post_training.activations import observe

_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, slots=True)
class _Pair:
    """An operator with weights in the float model, and what became of it."""

    exact: Operator
    quantized: Operator

    @property
    def bias(self) -> TensorInfo:
        return self.quantized.inputs[2]


def corrected(exact: bytes, quantized: bytes, means: Mapping[str, np.ndarray]) -> bytes:
    """A quantized model whose biases make up for what rounding the weights shifts on average.

    All layers are corrected at once, each for the shift that it causes itself: with the mean of every input
    channel in the float model, a layer before it that is corrected hands on no shift.

    Args:
        exact: the float .tflite.
        quantized: what became of it; operators are matched by their outputs' names.
        means: of the channels of the float model's activations, from `channel_means`.
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
    """The mean of each channel of what layers with weights take, over all images: float64 (C,) by name.

    Args:
        exact: the float .tflite.
        inputs: what it takes, float32 (1, H, W, C) each; iterated more than once.
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
    """What an error of the weights adds to the mean of each output channel, float64.

    Weights are (out, h, w, in), of depthwise (1, h, w, out), of dense layers (out, in). Borders count like
    the inside.
    """
    if op == "DEPTHWISE_CONV_2D":
        taps = error.sum(axis=(0, 1, 2), dtype=np.float64)
        return taps * np.repeat(means, len(taps) // len(means))
    taps = error.reshape(len(error), -1, error.shape[-1]).sum(axis=1, dtype=np.float64)
    groups = len(means) // taps.shape[1]
    return np.concatenate(
        [part @ mean for part, mean in zip(np.split(taps, groups), np.split(means, groups), strict=True)]
    )
