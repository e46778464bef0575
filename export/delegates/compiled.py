"""Runs a file with LiteRT's CompiledModel, the successor of the Interpreter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import operators
from effkeras.litert.latency import random_image
from effkeras.litert.verify import verified
from effkeras.support.console import quiet
from effkeras.support.errors import first_line
from effkeras.support.measurements import Delegation
from export.delegates.delegate import UnusableError


@dataclass(frozen=True, eq=False, slots=True)
class Input:
    """An input buffer, and the values to write into it."""

    buffer: Any
    values: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Output:
    """An output buffer, its number of elements, and their type."""

    buffer: Any
    size: int
    dtype: np.dtype


@dataclass(frozen=True, eq=False, slots=True)
class CompiledSession:
    """A compiled model and its buffers.

    A run on a GPU returns before the work is done. Timing therefore includes writing the input, running, and
    reading every output, which waits for the result.
    """

    model: Any
    signature: str
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    flatbuffer: bytes

    def run(self) -> None:
        """Writes the input, runs, and reads every output."""
        for given in self.inputs.values():
            given.buffer.write(given.values)
        buffers = ({name: one.buffer for name, one in side.items()} for side in (self.inputs, self.outputs))
        self.model.run_by_name(self.signature, *buffers)
        for made in self.outputs.values():
            made.buffer.read(made.size, made.dtype)

    def delegation(self) -> Delegation:
        """The delegation; CompiledModel reports only whether it accelerates every operator, not how many."""
        whole, total = bool(self.model.is_fully_accelerated()), len(operators(self.flatbuffer))
        return Delegation(total, total if whole else None, 1 if whole else None, whole)


def compile_for(flatbuffer: bytes, options: Any) -> CompiledSession:
    """Compiles a file with LiteRT's options.

    Raises UnusableError, with the runtime's reason, if that fails, and EffkerasError for a corrupt file.
    """
    from ai_edge_litert.compiled_model import CompiledModel

    verified(flatbuffer)  # a damaged file could crash the process
    try:
        with quiet():
            model = CompiledModel.from_buffer(flatbuffer, options=options)
            session = _with_buffers(model, flatbuffer)
            session.run()  # first run: initialises, and logs, inside quiet()
            return session
    except (RuntimeError, ValueError, OSError) as error:
        raise UnusableError(f"CompiledModel refuses the file ({first_line(error)})") from error


def _with_buffers(model: Any, flatbuffer: bytes) -> CompiledSession:
    key = next(iter(model.get_signature_list()))
    inputs = {
        name: Input(model.create_input_buffer_by_name(key, name), random_image(one["shape"], one["dtype"]))
        for name, one in model.get_input_tensor_details(key).items()
    }
    outputs = {
        name: Output(
            model.create_output_buffer_by_name(key, name), math.prod(one["shape"]), np.dtype(one["dtype"])
        )
        for name, one in model.get_output_tensor_details(key).items()
    }
    return CompiledSession(model, key, inputs, outputs, flatbuffer)
