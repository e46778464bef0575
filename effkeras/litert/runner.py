"""Runs .tflite files that effkeras exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.litert.edge_tpu import is_compiled
from effkeras.litert.flatbuffer import SIGNATURE, operators
from effkeras.litert.rewriting import attached
from effkeras.litert.verify import verified
from effkeras.support.ahead import cores
from effkeras.support.console import quiet
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.measurements import Delegation
from effkeras.support.memory import MEMORY_BUDGET
from effkeras.support.tables import parse_toml

DEFINITION = "effkeras.definition"
# Metadata entry: which output holds what, as JSON, where other tools require fixed output names.
OUTPUTS = "effkeras.outputs"
RECIPE = "effkeras.recipe"

# Interpreters side by side: at most so many; the memory of one is guessed from its file and its input. The
# largest tensors of EfficientNets hold some 24 values a pixel, and two of them are needed at once.
_MOST_RUNS = 16
_BYTES_A_PIXEL = 256

TOO_LARGE = "the network does not fit into memory; use a smaller input size, or a machine with more memory"


@dataclass(frozen=True, eq=False)
class LiteRTModel:
    """A .tflite and its interpreter: a `Predictor`.

    A float32 input takes pixels 0..255 unchanged, a uint8 input the rounded pixel, an int8 input the rounded
    pixel minus 128, whatever scale the tensor states. `roles` gives the content of an output, such as
    "detection_boxes", if the signature uses another name for it.

    Of several images, each core runs one at a time, in an interpreter with one thread: so no core waits for
    another in the middle of an image. The outputs are the same. `threads` are those of `interpreter`, which
    runs single images; with 1, and for very large networks, it runs all of them.
    """

    spec: ModelSpec
    interpreter: Any
    flatbuffer: bytes
    roles: Mapping[str, str] = field(default_factory=dict)
    threads: int = 2
    xnnpack: bool = True

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
        return cls(spec, interpreter, flatbuffer, roles, threads, xnnpack)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32, for float32 (B, H, W, 3) pixels 0..255, image by image."""
        runs = self._side_by_side if len(pixels) > 1 and self.threads > 1 else (self._run,)
        if len(runs) == 1:
            rows = [runs[0](image) for image in pixels]
        else:
            with ThreadPoolExecutor(len(runs)) as pool:
                shares = pool.map(_each, runs, [pixels[start :: len(runs)] for start in range(len(runs))])
                rows = [row for turn in zip_longest(*shares) for row in turn if row is not None]
        return {
            self.roles.get(name, name): dequantized(np.concatenate([row[name] for row in rows]), details)
            for name, details in runs[0].outputs.items()
        }

    def delegated(self) -> Delegation:
        """How much of the graph XNNPACK runs in this interpreter."""
        return delegation(self.interpreter, self.flatbuffer)

    def raw(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of one image (H, W, 3) in the artifact's own number format."""
        return self._run(pixels)

    @cached_property
    def _run(self) -> _Run:
        return _Run.of(self.interpreter)

    @cached_property
    def _side_by_side(self) -> tuple[_Run, ...]:
        """A run for each core, as far as memory allows; `interpreter` alone if it allows only one."""
        height, width = self.spec.input.size
        need = 2 * len(self.flatbuffer) + _BYTES_A_PIXEL * height * width
        count = min(cores(), _MOST_RUNS, MEMORY_BUDGET // need)
        if count < 2:
            return (self._run,)
        return tuple(
            _Run.of(_allocated(self.flatbuffer, threads=1, xnnpack=self.xnnpack)) for _ in range(count)
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Run:
    """The signature of an interpreter, ready to run: from one image to its outputs in their own formats."""

    signature: Any
    entry: str
    dtype: type
    outputs: Mapping[str, dict[str, Any]]

    @classmethod
    def of(cls, interpreter: Any) -> _Run:
        signature = interpreter.get_signature_runner(SIGNATURE)
        ((name, details),) = signature.get_input_details().items()
        return cls(signature, name, details["dtype"], signature.get_output_details())

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return self.signature(**{self.entry: quantized_pixels(image[None], self.dtype)})  # type: ignore[no-any-return]


def _each(run: _Run, images: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [run(image) for image in images]


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
    if values.dtype.itemsize > 1:
        return ((values.astype(np.int32) - zero_point) * np.float32(scale)).astype(np.float32)
    limits = np.iinfo(values.dtype)
    codes = np.arange(limits.min, limits.max + 1, dtype=np.int32)  # few, beside the values
    reals = ((codes - zero_point) * np.float32(scale)).astype(np.float32)
    return reals[values.astype(np.int16) - limits.min]


def make_interpreter(flatbuffer: bytes, *, threads: int = 2, xnnpack: bool = True) -> Any:
    """An interpreter with its tensors allocated; EffkerasError if the file is corrupt or for an Edge TPU.

    Args:
        flatbuffer: the file's content.
        threads: threads that the kernels may use.
        xnnpack: let XNNPACK run the operators it supports; otherwise the plain kernels run everything.
    """
    (made,) = make_interpreters(flatbuffer, 1, threads=threads, xnnpack=xnnpack)
    return made


def make_interpreters(flatbuffer: bytes, count: int, *, threads: int, xnnpack: bool = True) -> list[Any]:
    """Several interpreters of one file, to run at the same time; see `make_interpreter`."""
    verified(flatbuffer)  # a damaged file could crash the process
    with quiet():
        return [_allocated(flatbuffer, threads, xnnpack) for _ in range(count)]


def _allocated(flatbuffer: bytes, threads: int, xnnpack: bool) -> Any:
    """An interpreter for a verified file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    resolver = OpResolverType.AUTO if xnnpack else plain
    try:
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
