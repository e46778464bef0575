"""A file in LiteRT's Interpreter, with whatever delegate that has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.litert.runner import delegation
from export.delegates.delegate import Share


@dataclass(frozen=True, eq=False, slots=True)
class InterpreterSession:
    """An interpreter with its tensors allocated and its input set."""

    interpreter: Any
    flatbuffer: bytes

    def run(self) -> None:
        """One inference; the Interpreter returns when the outputs are there."""
        self.interpreter.invoke()

    def share(self) -> Share:
        """What the graph of the interpreter says."""
        found = delegation(self.interpreter, self.flatbuffer)
        whole = found.delegated_ops == found.total_ops
        return Share(found.total_ops, found.delegated_ops, found.partitions, whole)


def with_images(interpreter: Any, flatbuffer: bytes) -> InterpreterSession:
    """The session of an interpreter, all inputs set to `image`."""
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], image(detail["shape"], detail["dtype"]))
    return InterpreterSession(interpreter, flatbuffer)


def image(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """One fixed random image in the number format of an input: what every delegate is timed with."""
    pixels = np.random.default_rng(0).integers(0, 256, tuple(shape))
    return (pixels - 128 if np.dtype(dtype) == np.int8 else pixels).astype(dtype)
