"""Runs .tflite files that effkeras exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.litert.edge_tpu import is_compiled
from effkeras.litert.flatbuffer import SIGNATURE, operators
from effkeras.litert.rewriting import attached
from effkeras.litert.verify import verified
from effkeras.support.console import quiet
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.measurements import Delegation
from effkeras.support.tables import parse_toml

DEFINITION = "effkeras.definition"
# Metadata entry: which output holds what, as JSON, where other tools require fixed output names.
OUTPUTS = "effkeras.outputs"
RECIPE = "effkeras.recipe"

TOO_LARGE = "the network does not fit into memory; use a smaller input size, or a machine with more memory"


@dataclass(frozen=True, eq=False)
class LiteRTModel:
    """A .tflite and its interpreter: a `Predictor`.

    A float32 input takes pixels 0..255 unchanged, a uint8 input the rounded pixel, an int8 input the rounded
    pixel minus 128, whatever scale the tensor states. `roles` gives the content of an output, such as
    "detection_boxes", if the signature uses another name for it.
    """

    spec: ModelSpec
    interpreter: Any
    flatbuffer: bytes
    roles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, *, threads: int = 2, xnnpack: bool = True) -> LiteRTModel:
        """Opens a file; EffkerasError if it is missing, corrupt or not exported by effkeras."""
        try:
            return cls.of_bytes(read_flatbuffer(path), threads=threads, xnnpack=xnnpack)
        except EffkerasError as error:
            raise error if str(path) in str(error) else EffkerasError(f"{path}: {error}") from error

    @classmethod
    def of_bytes(cls, flatbuffer: bytes, *, threads: int = 2, xnnpack: bool = True) -> LiteRTModel:
        """Like `open`, from a file's content."""
        spec, roles = definition_of(flatbuffer), roles_of(flatbuffer)
        interpreter = make_interpreter(flatbuffer, threads=threads, xnnpack=xnnpack)
        return cls(spec, interpreter, flatbuffer, roles)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32, for float32 (B, H, W, 3) pixels 0..255, image by image."""
        rows = [self._one(image) for image in pixels]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def delegated(self) -> Delegation:
        """How much of the graph XNNPACK runs in this interpreter."""
        return delegation(self.interpreter, self.flatbuffer)

    def raw(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of one image (H, W, 3) in the artifact's own number format."""
        run = self.interpreter.get_signature_runner(SIGNATURE)
        ((name, details),) = run.get_input_details().items()
        return run(**{name: quantized_pixels(pixels[None], details["dtype"])})

    def _one(self, image: np.ndarray) -> dict[str, np.ndarray]:
        details = self.interpreter.get_signature_runner(SIGNATURE).get_output_details()
        values = self.raw(image)
        return {self.roles.get(name, name): dequantized(values[name], details[name]) for name in values}


def read_flatbuffer(path: Path) -> bytes:
    """The content of a .tflite file; EffkerasError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}; give a .tflite file") from error


def definition_of(flatbuffer: bytes) -> ModelSpec:
    """The definition that the exporter stored in the file; EffkerasError if there is none."""
    text = attached(flatbuffer, DEFINITION)
    if text is None:
        raise EffkerasError(
            "the .tflite carries no model definition: it was not exported by effkeras; "
            "make it with `python -m export.tflite`"
        )
    try:
        table = parse_toml(text, DEFINITION)
    except EffkerasError as error:
        raise EffkerasError(
            f"the definition in the .tflite is damaged ({error}); export the model again"
        ) from error
    return spec_from_table(table, DEFINITION)


def roles_of(flatbuffer: bytes) -> dict[str, str]:
    """The content of each output, by its name in the signature; empty if those names already tell it.

    Raises EffkerasError if the metadata entry is damaged.
    """
    text = attached(flatbuffer, OUTPUTS)
    try:
        held = {} if text is None else json.loads(text)
        return {str(name): str(role) for role, name in held.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise EffkerasError(f"{OUTPUTS} in the .tflite is damaged; export the model again") from error


def dequantized(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """The real values of a tensor, float32; `details` are the interpreter's."""
    if values.dtype.kind == "f":
        return values
    scale, zero_point = details["quantization"]
    return ((values.astype(np.int32) - zero_point) * np.float32(scale)).astype(np.float32)


def make_interpreter(flatbuffer: bytes, *, threads: int = 2, xnnpack: bool = True) -> Any:
    """An interpreter with its tensors allocated; EffkerasError if the file is corrupt or for an Edge TPU.

    Args:
        flatbuffer: the file's content.
        threads: threads that the kernels may use.
        xnnpack: let XNNPACK run the operators it supports; otherwise the plain kernels run everything.
    """
    verified(flatbuffer)  # a damaged file could crash the process
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    resolver = OpResolverType.AUTO if xnnpack else plain
    try:
        with quiet():
            interpreter = Interpreter(
                model_content=flatbuffer, num_threads=threads, experimental_op_resolver_type=resolver
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        if is_compiled(flatbuffer):
            raise EffkerasError(
                "the .tflite is compiled for an Edge TPU, and runs only with its library on a board that has "
                "one; give the file that it was compiled from"
            ) from error
        if isinstance(error, RuntimeError) and not str(error):  # LiteRT gives no message if memory runs out
            raise EffkerasError(TOO_LARGE) from error
        reason = first_line(error)
        raise EffkerasError(f"LiteRT refuses the .tflite ({reason}); export the model again") from error
    return interpreter


def delegation(interpreter: Any, flatbuffer: bytes) -> Delegation:
    """How much of the graph the interpreter has delegated to XNNPACK.

    The interpreter keeps the original operators and appends one DELEGATE operator per partition, with all
    tensors that enter and leave it. A partition therefore replaces the operators found on the way back
    from its outputs to its inputs.
    """
    graph = operators(flatbuffer)
    maker = {tensor.index: op for op in graph for tensor in op.outputs}
    partitions = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    taken: set[int] = set()
    for partition in partitions:
        edge = {int(index) for index in partition["inputs"]}
        pending = [int(index) for index in partition["outputs"]]
        while pending:
            op = maker.get(pending.pop())
            if op is None or op.index in taken:
                continue
            taken.add(op.index)
            pending.extend(tensor.index for tensor in op.inputs if tensor.index not in edge)
    return Delegation(len(graph), len(taken), len(partitions), len(taken) == len(graph))


def quantized_pixels(pixels: np.ndarray, dtype: type) -> np.ndarray:
    """Pixels 0..255 in the number format of an artifact's input (see `LiteRTModel`)."""
    if np.dtype(dtype) == np.float32:
        return np.asarray(pixels, np.float32)
    whole = np.clip(np.rint(pixels), 0, 255).astype(np.int16)
    return (whole - 128).astype(np.int8) if np.dtype(dtype) == np.int8 else whole.astype(np.uint8)
