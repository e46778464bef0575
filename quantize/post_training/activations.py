"""The activations of a .tflite for each image, and their errors in a quantized .tflite."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from effkeras.litert.flatbuffer import TensorInfo, layer_of, operators
from effkeras.litert.rewriting import with_outputs
from effkeras.litert.runner import dequantized, make_interpreter, make_interpreters
from effkeras.support.ahead import cores, mapped_ahead
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import MEMORY_BUDGET

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Activation:
    """A layer's output for one image: its values, float32, and their extremes, all finite."""

    name: str
    values: np.ndarray
    low: float
    high: float


def observe(
    flatbuffer: bytes,
    inputs: Iterable[np.ndarray],
    names: Collection[str] | None = None,
    at_once: int = MEMORY_BUDGET,
) -> Iterator[Activation]:
    """Runs a float model on `inputs` and yields its activations, including the input; see `measured`."""

    def copied(seen: Activation) -> Activation:
        return replace(seen, values=seen.values.copy())

    yield from measured(flatbuffer, inputs, copied, names, at_once)


def measured(
    flatbuffer: bytes,
    inputs: Iterable[np.ndarray],
    measure: Callable[[Activation], Found],
    names: Collection[str] | None = None,
    at_once: int = MEMORY_BUDGET,
) -> Iterator[Found]:
    """Runs a float model on `inputs` and yields what `measure` finds in each activation, image by image.

    Each core runs one image at a time, as far as memory allows. Activations larger than `at_once` bytes are
    read in parts, with another run of all inputs for each part.

    Args:
        flatbuffer: a float .tflite.
        inputs: its inputs, float32 (1, H, W, C) each; iterated more than once.
        measure: what is read of an activation, whose values are only valid meanwhile; called by threads.
        names: the tensors to read; default: all.
        at_once: the most bytes that the activations of images may take at a time.

    Raises:
        EffkerasError: an activation is NaN or infinite.
    """
    watched = [one for one in tensors_of(flatbuffer) if names is None or one.name in names]
    parts = list(parts_of(watched, at_once))
    if len(parts) > 1:
        size = sum(map(bytes_of, watched)) / 1e9
        note(f"an image's activations are {size:.1f} GB: they are read in {len(parts)} parts")
    for part in parts:
        count = max(1, min(cores(), at_once // max(sum(map(bytes_of, part)), 1)))
        yield from _measured(Observer.several(flatbuffer, part, count), part, inputs, measure)


class Observer:
    """Runs a .tflite, float or quantized, and reads its tensors `watched` after a run.

    The tensors become outputs, so that XNNPACK can run the network, as on the device.
    """

    def __init__(self, flatbuffer: bytes, watched: Sequence[TensorInfo]) -> None:
        self._open(make_interpreter(_with_watched(flatbuffer, watched)), watched)

    @classmethod
    def several(cls, flatbuffer: bytes, watched: Sequence[TensorInfo], count: int) -> list[Observer]:
        """Observers for as many threads."""
        threads, found = 1 if count > 1 else 2, [cls.__new__(cls) for _ in range(count)]
        opened = make_interpreters(_with_watched(flatbuffer, watched), count, threads=threads)
        for one, interpreter in zip(found, opened, strict=True):
            one._open(interpreter, watched)
        return found

    def _open(self, interpreter: Any, watched: Sequence[TensorInfo]) -> None:
        self._places = {tensor.name: tensor.index for tensor in watched}
        self._interpreter = interpreter
        (self._entry,) = self._interpreter.get_input_details()
        self._details = {one["index"]: one for one in self._interpreter.get_output_details()}

    def show(self, pixels: np.ndarray) -> None:
        """Runs the model on float32 (1, H, W, C)."""
        self._shown = _in_format(pixels, self._entry)
        self._interpreter.set_tensor(self._entry["index"], self._shown)
        self._interpreter.invoke()

    def read(self, name: str) -> np.ndarray:
        """The values of a tensor in the last run, dequantized to float32."""
        index = self._places[name]
        if index == self._entry["index"]:
            return dequantized(self._shown, self._entry)
        # A copy: no view into the interpreter may exist when it is invoked again.
        return dequantized(self._interpreter.get_tensor(index), self._details[index])

    def view(self, name: str) -> np.ndarray:
        """The values of a float tensor in the last run, valid until the next."""
        index = self._places[name]
        is_input = index == self._entry["index"]
        return self._shown if is_input else self._interpreter.tensor(index)()  # type: ignore[no-any-return]


def _with_watched(flatbuffer: bytes, watched: Sequence[TensorInfo]) -> bytes:
    """The model with the watched tensors as outputs."""
    made = {tensor.index for op in operators(flatbuffer) for tensor in op.outputs}
    return with_outputs(flatbuffer, [tensor.index for tensor in watched if tensor.index in made])


def tensors_of(flatbuffer: bytes) -> list[TensorInfo]:
    """The input and the outputs of all operators, in the order of execution."""
    used = (tensor for op in operators(flatbuffer) for tensor in (*op.inputs, *op.outputs))
    return list({tensor.name: tensor for tensor in used if not tensor.is_constant}.values())


def parts_of(tensors: Iterable[TensorInfo], at_once: int = MEMORY_BUDGET) -> Iterator[list[TensorInfo]]:
    """Divides tensors into parts of at most `at_once` bytes; a larger tensor is a part by itself."""
    part: list[TensorInfo] = []
    size = 0
    for tensor in tensors:
        if part and size + bytes_of(tensor) > at_once:
            yield part
            part, size = [], 0
        part.append(tensor)
        size += bytes_of(tensor)
    if part:
        yield part


def bytes_of(tensor: TensorInfo) -> int:
    """The bytes of a tensor's values in float32."""
    return 4 * math.prod(tensor.shape)


def _measured(
    observers: Sequence[Observer],
    watched: Sequence[TensorInfo],
    inputs: Iterable[np.ndarray],
    measure: Callable[[Activation], Found],
) -> Iterator[Found]:
    free: SimpleQueue[Observer] = SimpleQueue()
    for one in observers:
        free.put(one)

    def run(pixels: np.ndarray) -> list[Found]:
        observer = free.get()
        try:
            observer.show(pixels)
            return [measure(_activation(one.name, observer.view(one.name))) for one in watched]
        finally:
            free.put(observer)

    count = len(observers)
    with closing(mapped_ahead(run, inputs, ahead=2 * count - 1, threads=count)) as images:
        for found in images:
            yield from found


def _activation(name: str, values: np.ndarray) -> Activation:
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # with a NaN value, both are NaN
        kind = "NaN" if math.isnan(low) else "infinite values"
        raise EffkerasError(
            f"the layer {layer_of(name)!r} outputs {kind} for a calibration image; "
            "check the weights and the images"
        )
    return Activation(name, values, low, high)


def _in_format(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Quantizes real values by a tensor's scale and zero point."""
    if np.dtype(detail["dtype"]).kind == "f":
        return values
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    codes = np.rint(values / scale) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(detail["dtype"])


_TINY = 1e-12

# A .tflite and some of its tensors.
_Watched = tuple[bytes, Sequence[TensorInfo]]


class _Errors:
    """Sums over images of a layer's values, their squares, and the squared errors."""

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
    exact: bytes, quantized: bytes, inputs: Iterable[np.ndarray], at_once: int = MEMORY_BUDGET
) -> list[float | None]:
    """The root mean square error of each operator of a quantized model.

    Errors are a share of the float output's standard deviation and include those of earlier layers. The error
    is None for an operator whose output the float model lacks, such as a conversion between number formats.

    Args:
        exact: the float .tflite.
        quantized: the quantized .tflite; its activations have the same names.
        inputs: inputs of the float model, float32 (1, H, W, C) each; iterated more than once.
        at_once: the most bytes that one image's activations may take at a time.
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
    """The errors of the watched tensors of both models, by name."""
    runs = Observer(*exact), Observer(*quantized)
    found = {tensor.name: _Errors() for tensor in quantized[1]}
    for pixels in inputs:
        for run in runs:
            run.show(pixels)
        for name, errors in found.items():
            errors.add(*(run.read(name) for run in runs))
    return found
