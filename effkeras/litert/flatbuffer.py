"""What a .tflite holds, read without running it: operators, multiply-adds, constants, inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from effkeras.litert.flat_records import Record
from effkeras.litert.tree import dtype_name, enum_name, load_schema, parse, text_of
from effkeras.litert.verify import verified
from effkeras.support.errors import EffkerasError

SIGNATURE = "serving_default"

Arithmetic = Literal["float", "hybrid", "integer", "conversion"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of the graph; `dtype` as the schema spells it, in lower case ("float32", "int8")."""

    index: int
    name: str
    dtype: str
    is_constant: bool
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the main graph, in the order of execution.

    `name` is the schema's, such as CONV_2D; a custom operator has its own.
    """

    index: int
    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @property
    def arithmetic(self) -> Arithmetic:
        """The number format of the computation.

        "conversion" changes number formats. "hybrid" multiplies 8-bit weights with activations that it
        quantizes on the fly, and returns float.
        """
        if self.name in ("QUANTIZE", "DEQUANTIZE", "CAST"):
            return "conversion"
        if not any(_is_float(tensor) for tensor in (*self.outputs, *self.inputs[:1])):
            return "integer"
        has_integer_weights = any(t.is_constant and t.dtype in ("int8", "int4") for t in self.inputs)
        return "hybrid" if has_integer_weights else "float"


def operators(model: bytes) -> list[Operator]:
    """The operators of the main graph. Raises EffkerasError for a corrupt file."""
    record = verified(model)
    graph, buffers = record["subgraphs"][0], record.get("buffers", [])
    names = [_code_name(code) for code in record.get("operator_codes", [])]
    tensors = [_tensor_info(index, tensor, buffers) for index, tensor in enumerate(graph.get("tensors", []))]
    return [
        Operator(
            index,
            names[operator.get("opcode_index", 0)],
            tuple(tensors[i] for i in operator.get("inputs", ()) if i >= 0),
            tuple(tensors[i] for i in operator.get("outputs", ()) if i >= 0),
        )
        for index, operator in enumerate(graph.get("operators", []))
    ]


def _code_name(code: Record) -> str:
    builtin = max(code.get("builtin_code", 0), code.get("deprecated_builtin_code", 0))
    return code.get("custom_code") or enum_name(load_schema().BuiltinOperator, builtin)


def _tensor_info(index: int, tensor: Record, buffers: Sequence[Record]) -> TensorInfo:
    """A tensor of a verified file; its constant may lie behind the flatbuffer."""
    buffer = buffers[tensor.get("buffer", 0)]
    return TensorInfo(
        index,
        tensor.get("name", ""),
        dtype_name(tensor.get("type", 0)),
        "data" in buffer or buffer.get("offset", 0) > 0,
        tuple(int(side) for side in tensor.get("shape", ())),
    )


@dataclass(frozen=True, eq=False, slots=True)
class RealConstant:
    """A constant tensor as real numbers; `scale` broadcasts to `values` and is 1 for float tensors."""

    values: np.ndarray
    scale: np.ndarray
    dtype: str

    def codes_of(self, values: np.ndarray) -> np.ndarray:
        """Quantizes other values to the tensor's number format; the tensor's zero point must be 0."""
        if self.dtype.startswith("float"):
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(values / self.scale), limits.min, limits.max).astype(self.dtype)


def real_constants(model: bytes, indices: Iterable[int]) -> dict[int, RealConstant]:
    """The real values, float64, of some constant tensors of the main graph, by tensor index.

    4-bit weights are unpacked. Raises EffkerasError for a corrupt file.
    """
    parsed = parse(model)
    tensors = parsed.subgraphs[0].tensors
    return {index: _real(tensors[index], parsed.buffers) for index in indices}


def _real(tensor: Any, buffers: Sequence[Any]) -> RealConstant:
    dtype = dtype_name(tensor.type)
    shape = tuple(int(side) for side in tensor.shape)
    data = np.frombuffer(buffers[tensor.buffer].data.tobytes(), np.uint8)
    codes = _nibbles(data)[: int(np.prod(shape))] if dtype == "int4" else data.view(dtype)
    if codes.size != np.prod(shape):
        raise EffkerasError(f"the .tflite is damaged: {text_of(tensor.name)!r} lacks values; export it again")
    codes = codes.reshape(shape).astype(np.float64)
    if dtype.startswith("float"):
        return RealConstant(codes, np.ones((1,) * len(shape)), dtype)
    scales, zeros = quantization_of(tensor)
    spread = [1] * len(shape)
    spread[tensor.quantization.quantizedDimension if len(scales) > 1 else 0] = len(scales)
    scale = scales.reshape(spread)
    return RealConstant((codes - zeros.reshape(spread)) * scale, scale, dtype)


def quantization_of(tensor: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points of a parsed tensor, float64, equally many of both.

    Raises EffkerasError for a tensor without a scale.
    """
    found = tensor.quantization
    if found is None or found.scale is None or not len(found.scale):
        kind = f"{dtype_name(tensor.type)} tensor {text_of(tensor.name)!r}"
        raise EffkerasError(f"the {kind} has no scale; export the model again")
    scales = np.asarray(found.scale, np.float64)
    zeros = np.zeros_like(scales) if found.zeroPoint is None else np.asarray(found.zeroPoint, np.float64)
    return scales, zeros if len(zeros) else np.zeros_like(scales)


def _nibbles(data: np.ndarray) -> np.ndarray:
    """Signed 4-bit integers, the low half of each byte first."""
    halves = np.stack([data & 15, data >> 4], axis=-1).ravel().astype(np.int8)
    return np.where(halves > 7, halves - 16, halves)


def layer_of(tensor_name: str) -> str:
    """The Keras layer in a tensor's name: "net_1/stem_act_1/Relu6;net_1/..." gives "stem_act"."""
    parts = tensor_name.split(";")[0].split("/")
    layer = parts[1] if len(parts) > 1 else parts[0]
    stem, _, number = layer.rpartition("_")
    return stem if stem and number.isdigit() else layer


def tensor_info(index: int, tensor: Any, buffers: Sequence[Any]) -> TensorInfo:
    """A parsed tensor's `TensorInfo`, from its index and the file's buffers."""
    is_constant = buffers[tensor.buffer].data is not None
    shape = () if tensor.shape is None else tuple(int(side) for side in tensor.shape)
    return TensorInfo(index, text_of(tensor.name), dtype_name(tensor.type), is_constant, shape)


def _is_float(tensor: TensorInfo) -> bool:
    return tensor.dtype.startswith("float")


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def multiply_adds(op: Operator) -> int:
    """Multiply-adds of one run of an operator with weights; 0 for all other operators.

    Raises EffkerasError for an operator that lacks its weights: the file is damaged.
    """
    try:
        return _multiply_adds(op)
    except IndexError as error:
        raise EffkerasError(
            f"the .tflite is damaged: operator {op.index}, {op.name}, lacks weights; export the model again"
        ) from error


def _multiply_adds(op: Operator) -> int:
    if op.name not in _WEIGHTED:
        return 0
    outputs = math.prod(op.outputs[0].shape)
    if op.name == "CONV_2D":
        return outputs * math.prod(op.inputs[1].shape[1:])
    if op.name == "DEPTHWISE_CONV_2D":
        return outputs * math.prod(op.inputs[1].shape[1:3])
    if op.name == "FULLY_CONNECTED":
        return outputs * op.inputs[1].shape[1]
    # TRANSPOSE_CONV's inputs: output shape, weights (out, h, w, in), activations
    return math.prod(op.inputs[2].shape) * math.prod(op.inputs[1].shape[:3])


def integer_share(graph: Iterable[Operator]) -> float:
    """The share, 0..1, of a graph's multiply-adds in operators with int8 output."""
    costs = [(op, multiply_adds(op)) for op in graph]
    total = sum(cost for _, cost in costs)
    return sum(cost for op, cost in costs if op.outputs[0].dtype == "int8") / max(total, 1)


def gives_probabilities(model: bytes) -> bool:
    """Whether the last operator, apart from conversions and changes of shape, is a softmax or sigmoid."""
    names = [op.name for op in operators(model) if op.arithmetic != "conversion"]
    while names and names[-1] in ("RESHAPE", "SQUEEZE"):
        names.pop()
    return bool(names) and names[-1] in ("SOFTMAX", "LOGISTIC")


@dataclass(frozen=True, slots=True)
class IOTensor:
    """An input or output of the main graph.

    `name` comes from the signature, or from the tensor if there is no signature. `scale` and `zero_point` are
    None for a tensor that is not quantized.
    """

    name: str
    tensor: int
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value that it can represent; infinite if it is not quantized."""
        if self.scale is None or self.zero_point is None:
            return -math.inf, math.inf
        codes = np.iinfo(self.dtype)
        return (codes.min - self.zero_point) * self.scale, (codes.max - self.zero_point) * self.scale


@dataclass(frozen=True, slots=True)
class Interface:
    """Inputs and outputs in the order of the graph, and the keys of the file's signatures."""

    inputs: tuple[IOTensor, ...]
    outputs: tuple[IOTensor, ...]
    signatures: tuple[str, ...]


def interface(model: bytes) -> Interface:
    """The inputs and outputs of a file's main graph. Raises EffkerasError for a corrupt file."""
    record = verified(model)
    graph, signatures = record["subgraphs"][0], record.get("signature_defs", [])
    main: Record = next((one for one in signatures if one.get("subgraph_index", 0) == 0), {})
    return Interface(
        _io_tensors(graph, "inputs", main),
        _io_tensors(graph, "outputs", main),
        tuple(one.get("signature_key", "") for one in signatures),
    )


def _io_tensors(graph: Record, key: str, signature: Record) -> tuple[IOTensor, ...]:
    names = {entry.get("tensor_index", 0): entry.get("name", "") for entry in signature.get(key, [])}
    tensors = graph.get("tensors", [])
    return tuple(_io_tensor(int(index), tensors[index], names) for index in graph.get(key, ()))


def _io_tensor(index: int, tensor: Record, names: Mapping[int, str]) -> IOTensor:
    quantization = tensor.get("quantization", {})
    scale, zero = quantization.get("scale", ()), quantization.get("zero_point", ())
    return IOTensor(
        name=names.get(index, "") or tensor.get("name", ""),
        tensor=index,
        dtype=dtype_name(tensor.get("type", 0)),
        shape=tuple(int(side) for side in tensor.get("shape", ())),
        scale=float(scale[0]) if len(scale) else None,
        zero_point=(int(zero[0]) if len(zero) else 0) if len(scale) else None,
    )
