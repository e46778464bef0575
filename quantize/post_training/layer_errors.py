"""How far each layer of a quantized .tflite is from the float one, on pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from effkeras.litert.flatbuffer import TensorInfo, operators
from quantize.post_training.observing import AT_ONCE, Observer, parts_of, tensors_of

_TINY = 1e-12

# A .tflite and tensors of it.
_Watched = tuple[bytes, Sequence[TensorInfo]]


class _Errors:
    """Sums over pictures: of a layer's values, their squares, and the squared errors."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.squares = 0.0
        self.error = 0.0

    def add(self, wanted: np.ndarray, got: np.ndarray) -> None:
        self.count += wanted.size
        self.total += float(wanted.sum(dtype=np.float64))
        self.squares += float(np.square(wanted, dtype=np.float64).sum())
        self.error += float(np.square(wanted - got, dtype=np.float64).sum())

    @property
    def relative(self) -> float:
        variance = self.squares / self.count - (self.total / self.count) ** 2
        return float(np.sqrt(self.error / self.count / max(variance, _TINY)))


def layer_errors(
    exact: bytes, quantized: bytes, inputs: Iterable[np.ndarray], at_once: int = AT_ONCE
) -> list[float | None]:
    """The error of each operator of a quantized model: root mean square, as a share of the float output's
    standard deviation.

    Errors include what earlier layers hand on. An operator whose output the float model does not have, such
    as a conversion between number formats, has None.

    Args:
        exact: the float .tflite.
        quantized: what became of it; its activations have the same names.
        inputs: what the float model takes, float32 (1, H, W, C) each; they can be gone through again.
        at_once: bytes, at most, that a picture's activations may take at one time.
    """
    wanted = {tensor.name: tensor for tensor in tensors_of(exact)}
    shared = [tensor for tensor in tensors_of(quantized) if tensor.name in wanted]
    found: dict[str, _Errors] = {}
    for part in parts_of(shared, at_once):
        models = (exact, [wanted[tensor.name] for tensor in part]), (quantized, part)
        found |= _errors(*models, inputs)
    names = [op.outputs[0].name for op in operators(quantized)]
    return [found[name].relative if name in found and found[name].count else None for name in names]


def _errors(exact: _Watched, quantized: _Watched, inputs: Iterable[np.ndarray]) -> dict[str, _Errors]:
    """The errors of the tensors that are watched in both models, by name."""
    runs = Observer(*exact), Observer(*quantized)
    found = {tensor.name: _Errors() for tensor in quantized[1]}
    for pixels in inputs:
        for run in runs:
            run.show(pixels)
        for name, errors in found.items():
            errors.add(*(run.read(name) for run in runs))
    return found
