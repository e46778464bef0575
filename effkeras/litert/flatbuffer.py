"""Reads and rewrites .tflite files through the published schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from effkeras.litert.archive import append_files, read_files
from effkeras.litert.tree import code_index, code_name, dtype_name, load_schema, pack, parse, text_of
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
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    names = [code_name(code) for code in parsed.operatorCodes]
    tensors = [tensor_info(index, tensor, parsed.buffers) for index, tensor in enumerate(graph.tensors or ())]
    return [
        Operator(
            index,
            names[operator.opcodeIndex],
            tuple(tensors[i] for i in operator.inputs or () if i >= 0),
            tuple(tensors[i] for i in operator.outputs or () if i >= 0),
        )
        for index, operator in enumerate(graph.operators or ())
    ]


def attach(model: bytes, name: str, payload: bytes) -> bytes:
    """Stores `payload` in the file's metadata table under `name`; replaces an older entry.

    Other entries, associated files behind the flatbuffer and the network do not change.
    """
    return attach_all(model, {name: payload})


def attach_all(model: bytes, payloads: dict[str, bytes]) -> bytes:
    """Like `attach` for several entries, in one rewrite of the file."""
    schema = load_schema()
    parsed = parse(model)
    in_use = {tensor.buffer for graph in parsed.subgraphs for tensor in graph.tensors}
    kept = []
    for entry in parsed.metadata or []:
        if text_of(entry.name) not in payloads:
            kept.append(entry)
        elif entry.buffer not in in_use:
            parsed.buffers[entry.buffer] = schema.BufferT()
    for name, payload in payloads.items():
        kept.append(schema.MetadataT(name=name, buffer=len(parsed.buffers)))
        parsed.buffers.append(schema.BufferT(data=np.frombuffer(payload, np.uint8)))
    parsed.metadata = kept
    return append_files(pack(parsed), read_files(model))


def attached(model: bytes, name: str) -> bytes | None:
    """The payload that `attach` stored under `name`, or None."""
    parsed = parse(model)
    for entry in parsed.metadata or []:
        if text_of(entry.name) == name:
            data = parsed.buffers[entry.buffer].data
            return b"" if data is None else bytes(data)
    return None


def name_interface(model: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Names the graph's inputs and outputs, in their order, and writes the signature `serving_default`."""
    schema = load_schema()
    parsed = parse(model)
    graph = parsed.subgraphs[0]

    def named(indices: Sequence[int], names: Sequence[str]) -> list[Any]:
        for index, name in zip(indices, names, strict=True):
            graph.tensors[index].name = name
        pairs = zip(indices, names, strict=True)
        return [schema.TensorMapT(name=name, tensorIndex=index) for index, name in pairs]

    entry = schema.SignatureDefT(named(graph.inputs, inputs), named(graph.outputs, outputs), SIGNATURE, 0)
    parsed.signatureDefs = [entry]
    return pack(parsed)


def with_uint8_io(model: bytes) -> bytes:
    """Gives an int8 model uint8 inputs and outputs, with bit-equal results.

    Every int8 input and output gets a UINT8 twin whose zero point is 128 higher, and a QUANTIZE
    between the two; the signature points to the twins. Raises EffkerasError if the input is not int8.
    """
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    schema = load_schema()
    if any(graph.tensors[index].type != schema.TensorType.INT8 for index in graph.inputs):
        raise EffkerasError("only a model with int8 input can be given a uint8 input; use --io int8 first")
    code = code_index(parsed, schema.BuiltinOperator.QUANTIZE)
    for position, index in enumerate(list(graph.inputs)):
        twin = _uint8_twin(parsed, index)
        graph.inputs[position] = twin
        graph.operators.insert(0, schema.OperatorT(opcodeIndex=code, inputs=[twin], outputs=[index]))
    for position, index in enumerate(list(graph.outputs)):
        if graph.tensors[index].type == schema.TensorType.INT8:
            twin = _uint8_twin(parsed, index)
            graph.outputs[position] = twin
            graph.operators.append(schema.OperatorT(opcodeIndex=code, inputs=[index], outputs=[twin]))
    return pack(parsed)


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


def with_constants(model: bytes, values: Mapping[int, np.ndarray]) -> bytes:
    """Replaces the values of some constant tensors of the main graph, by tensor index.

    Tensors that shared a buffer with a changed one keep their values. Raises EffkerasError if a shape or
    number format differs from the tensor's, or the tensor is not a constant.
    """
    schema = load_schema()
    parsed = parse(model)
    tensors = parsed.subgraphs[0].tensors
    users = Counter(tensor.buffer for graph in parsed.subgraphs for tensor in graph.tensors)
    for index, value in values.items():
        info = tensor_info(index, tensors[index], parsed.buffers)
        if not info.is_constant or (value.shape, str(value.dtype)) != (info.shape, info.dtype):
            raise EffkerasError(f"{info.name} cannot become {value.dtype} {value.shape}: it is {info}")
        buffer = schema.BufferT(data=np.frombuffer(value.tobytes(), np.uint8))
        if users[tensors[index].buffer] == 1:
            parsed.buffers[tensors[index].buffer] = buffer
            continue
        users[tensors[index].buffer] -= 1
        tensors[index].buffer = len(parsed.buffers)
        parsed.buffers.append(buffer)
    return pack(parsed)


def with_outputs(model: bytes, indices: Iterable[int]) -> bytes:
    """Adds tensors of the main graph to its outputs, after the existing ones.

    An interpreter keeps the values of outputs, but reuses the memory of other tensors.
    """
    parsed = parse(model)
    outputs = list(map(int, parsed.subgraphs[0].outputs))
    parsed.subgraphs[0].outputs = [*outputs, *(index for index in indices if index not in outputs)]
    return pack(parsed)


def without_final_activation(model: bytes) -> bytes:
    """Removes a softmax or sigmoid directly before an output, so that the file returns logits."""
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    names = [code_name(code) for code in parsed.operatorCodes]
    for op in list(graph.operators):
        if names[op.opcodeIndex] not in ("SOFTMAX", "LOGISTIC") or not (op.inputs and op.outputs):
            continue
        output = op.outputs[0]
        if output in graph.outputs and not any(output in (other.inputs or ()) for other in graph.operators):
            graph.operators.remove(op)
            graph.outputs = [op.inputs[0] if index == output else index for index in graph.outputs]
            _repoint(parsed, output, op.inputs[0])
    return pack(parsed)


def layer_of(tensor_name: str) -> str:
    """The Keras layer in a tensor's name: "net_1/stem_act_1/Relu6;net_1/..." gives "stem_act"."""
    parts = tensor_name.split(";")[0].split("/")
    layer = parts[1] if len(parts) > 1 else parts[0]
    stem, _, number = layer.rpartition("_")
    return stem if stem and number.isdigit() else layer


def _uint8_twin(parsed: Any, index: int) -> int:
    schema = load_schema()
    graph = parsed.subgraphs[0]
    original = graph.tensors[index]
    name = text_of(original.name)
    scale, zeros = quantization_of(original)
    scales = schema.QuantizationParametersT(
        scale=[float(value) for value in scale], zeroPoint=[int(value) + 128 for value in zeros]
    )
    twin = schema.TensorT(
        shape=original.shape, type=schema.TensorType.UINT8, name=name, quantization=scales, buffer=0
    )
    original.name = f"{name}_int8"
    graph.tensors.append(twin)
    _repoint(parsed, index, len(graph.tensors) - 1)
    return len(graph.tensors) - 1


def _repoint(parsed: Any, old: int, new: int) -> None:
    for signature in parsed.signatureDefs or []:
        for entry in (*(signature.inputs or ()), *(signature.outputs or ())):
            if entry.tensorIndex == old:
                entry.tensorIndex = new


def tensor_info(index: int, tensor: Any, buffers: Sequence[Any]) -> TensorInfo:
    """A parsed tensor's `TensorInfo`, from its index and the file's buffers."""
    is_constant = buffers[tensor.buffer].data is not None
    shape = () if tensor.shape is None else tuple(int(side) for side in tensor.shape)
    return TensorInfo(index, text_of(tensor.name), dtype_name(tensor.type), is_constant, shape)


def _is_float(tensor: TensorInfo) -> bool:
    return tensor.dtype.startswith("float")
