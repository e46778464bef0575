"""A file in LiteRT's CompiledModel, the interface that takes the Interpreter's place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import operators
from effkeras.litert.latency import random_image
from effkeras.litert.verify import verified
from effkeras.support.errors import first_line
from effkeras.support.measurements import Delegation
from effkeras.support.quiet import quiet
from export.delegates.delegate import UnusableError


@dataclass(frozen=True, eq=False, slots=True)
class Input:
    """A buffer that a run reads, and what is written into it."""

    buffer: Any
    values: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Output:
    """A buffer that a run fills: how many numbers of which type."""

    buffer: Any
    size: int
    dtype: np.dtype


@dataclass(frozen=True, eq=False, slots=True)
class CompiledSession:
    """A compiled model and its buffers.

    A run on a GPU returns before the work is done. What is timed is therefore writing the input, running,
    and reading every output: reading waits for the result.
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
        """CompiledModel tells whether everything is accelerated, not how much."""
        whole, total = bool(self.model.is_fully_accelerated()), len(operators(self.flatbuffer))
        return Delegation(total, total if whole else None, 1 if whole else None, whole)


def compile_for(flatbuffer: bytes, options: Any) -> CompiledSession:
    """Compiles a file with LiteRT's options.

    Raises UnusableError with the runtime's own reason, EffkerasError for a corrupt file.
    """
    from ai_edge_litert.compiled_model import CompiledModel

    verified(flatbuffer)  # what is damaged could take the whole process down
    try:
        with quiet():
            model = CompiledModel.from_buffer(flatbuffer, options=options)
            session = _with_buffers(model, flatbuffer)
            session.run()  # what is made at the first run, and told of, is made now
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
