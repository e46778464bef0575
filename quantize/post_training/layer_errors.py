"""How far each layer of a quantized .tflite is from the float one, on pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import operators
from quantize.post_training.ranges import activations, observing_interpreter

_TINY = 1e-12


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


def layer_errors(exact: bytes, quantized: bytes, inputs: Iterable[np.ndarray]) -> list[float | None]:
    """The error of each operator of a quantized model: root mean square, as a share of the float output's
    standard deviation.

    Errors include what earlier layers hand on. An operator whose output the float model does not have, such
    as a conversion between number formats, has None.

    Args:
        exact: the float .tflite.
        quantized: what became of it; its activations have the same names.
        inputs: what the float model takes, float32 (1, H, W, C) each.
    """
    runs = _Run(exact), _Run(quantized)
    shared = [name for name in runs[1].watched if name in runs[0].watched]
    found = {name: _Errors() for name in shared}
    for pixels in inputs:
        for run in runs:
            run.show(pixels)
        for name, errors in found.items():
            errors.add(runs[0].read(name), runs[1].read(name))
    names = [op.outputs[0].name for op in operators(quantized)]
    return [found[name].relative if name in found and found[name].count else None for name in names]


class _Run:
    """A model whose activations are read as real numbers."""

    def __init__(self, flatbuffer: bytes) -> None:
        self._interpreter = observing_interpreter(flatbuffer)
        self.watched = activations(self._interpreter, flatbuffer)
        self._details = {one["index"]: one for one in self._interpreter.get_tensor_details()}

    def show(self, pixels: np.ndarray) -> None:
        """Runs the model on float32 (1, H, W, C)."""
        (entry,) = self._interpreter.get_input_details()
        self._interpreter.set_tensor(entry["index"], _in_format(pixels, entry))
        self._interpreter.invoke()

    def read(self, name: str) -> np.ndarray:
        """An activation of the last run, float32."""
        index = self.watched[name]
        return dequantized(self._interpreter.get_tensor(index), self._details[index])


def dequantized(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """The real numbers that a tensor stands for, by its scale and zero point."""
    if values.dtype.kind == "f":
        return values
    scale, zero_point = detail["quantization"]
    return ((values.astype(np.int32) - zero_point) * np.float32(scale)).astype(np.float32)


def _in_format(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if np.dtype(detail["dtype"]).kind == "f":
        return values
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    codes = np.rint(values / scale) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(detail["dtype"])
