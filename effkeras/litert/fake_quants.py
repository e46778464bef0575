"""Reads the ranges of fake quantization in a float .tflite, and removes the fake quantization.

The converter leaves each fake quantization as a pair of QUANTIZE and DEQUANTIZE, whose scale and zero point
give the range.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import quantization_of
from effkeras.litert.tree import code_index, code_name, load_schema, pack, parse, text_of
from effkeras.support.errors import EffkerasError

Range = tuple[float, float]

# Operators whose outputs have the same range as their inputs.
SAME_RANGE = (
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "MAX_POOL_2D",
    "MIRROR_PAD",
    "PACK",
    "PAD",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SLICE",
    "SPLIT",
    "SQUEEZE",
    "STRIDED_SLICE",
    "TRANSPOSE",
    "UNPACK",
)
_DEPTHWISE = "DEPTHWISE_CONV_2D"
_WITH_KERNEL = ("CONV_2D", _DEPTHWISE, "FULLY_CONNECTED", "TRANSPOSE_CONV")
# The 8-bit output range of these is fixed, whatever the input.
_FIXED: Mapping[str, Range] = {
    "LOGISTIC": (0.0, 255 / 256),
    "SOFTMAX": (0.0, 255 / 256),
    "TANH": (-1.0, 127 / 128),
}


@dataclass(frozen=True, eq=False, slots=True)
class Stripped:
    """A float .tflite without fake quantization.

    `ranges` is keyed by tensor name. `in_float` names the first output of each operator that lacks a range
    for one of its inputs or outputs.
    """

    flatbuffer: bytes
    ranges: Mapping[str, Range]
    in_float: tuple[str, ...]


def strip_fake_quants(model: bytes, entry: Range | None = None) -> Stripped:
    """Removes all pairs of QUANTIZE and DEQUANTIZE from a float .tflite and returns their ranges too.

    `entry` is the range of the graph's input, for a file in which no pair gives it.
    """
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    ranges = _remove_pairs(parsed)
    if entry is not None:
        ranges[int(graph.inputs[0])] = entry
    _spread(parsed, ranges)
    named = {text_of(graph.tensors[index].name): one for index, one in ranges.items()}
    in_float = tuple(
        text_of(graph.tensors[op.outputs[0]].name)
        for op in graph.operators
        if not all(index in ranges for index in _activations(parsed, op))
    )
    return Stripped(pack(parsed), named, in_float)


@dataclass(frozen=True, eq=False, slots=True)
class StoredKernel:
    """A float kernel of a .tflite: its operator's first output, its tensor's name, and its values."""

    operator: str
    name: str
    values: np.ndarray
    is_depthwise: bool


def stored_kernels(model: bytes) -> list[StoredKernel]:
    """The float kernels of a .tflite."""
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    found = []
    for op in graph.operators:
        name = code_name(parsed.operatorCodes[op.opcodeIndex])
        if name not in _WITH_KERNEL or len(op.inputs or ()) < 2 or not op.outputs:
            continue
        tensor = graph.tensors[op.inputs[1]]
        data = parsed.buffers[tensor.buffer].data
        if data is not None and tensor.type == load_schema().TensorType.FLOAT32:
            values = np.frombuffer(data.tobytes(), np.float32).reshape(tensor.shape)
            output = text_of(graph.tensors[op.outputs[0]].name)
            found.append(StoredKernel(output, text_of(tensor.name), values, name == _DEPTHWISE))
    return found


def relus_as_requantization(model: bytes) -> bytes:
    """Replaces int8 RELU by QUANTIZE, with equal results: an output range that starts at 0 clips negatives.

    XNNPACK runs QUANTIZE, but leaves 8-bit RELU to the plain kernels.
    """
    schema = load_schema()
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    names = [code_name(code) for code in parsed.operatorCodes]
    relus = [op for op in graph.operators if names[op.opcodeIndex] == "RELU" and _cuts_at_zero(graph, op)]
    if not relus:
        return model
    code = code_index(parsed, schema.BuiltinOperator.QUANTIZE)
    for op in relus:
        op.opcodeIndex, op.builtinOptions, op.builtinOptionsType = code, None, 0
    return pack(parsed)


def _cuts_at_zero(graph: Any, op: Any) -> bool:
    if not (op.inputs and op.outputs):
        return False
    source, made = (graph.tensors[index] for index in (op.inputs[0], op.outputs[0]))
    int8 = load_schema().TensorType.INT8
    return source.type == made.type == int8 and list(quantization_of(made)[1]) == [-128]


def _remove_pairs(parsed: Any) -> dict[int, Range]:
    """Removes the pairs; returns the range of each tensor that had one."""
    graph = parsed.subgraphs[0]
    names = [code_name(code) for code in parsed.operatorCodes]
    removal = _PairRemoval()
    for op in graph.operators:
        if not (op.inputs and op.outputs):
            raise EffkerasError(f"{names[op.opcodeIndex]} lacks inputs or outputs; export the model again")
        name, first, made = names[op.opcodeIndex], int(op.inputs[0]), int(op.outputs[0])
        if name == "QUANTIZE":
            removal.quantize(graph, first, made)
        elif name == "DEQUANTIZE" and first in removal.sources:
            removal.sources[made] = removal.sources[first]
        else:
            op.inputs = [removal.sources.get(int(index), int(index)) for index in op.inputs]
            removal.keep(op)
    graph.operators = removal.kept
    _reconnect(parsed, removal.sources)
    return removal.ranges


class _PairRemoval:
    """State while pairs are removed: `sources` maps a pair's tensors to the tensor that replaces them."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.ranges: dict[int, Range] = {}
        self.sources: dict[int, int] = {}
        self._makers: dict[int, Any] = {}

    def keep(self, op: Any) -> None:
        self.kept.append(op)
        self._makers |= dict.fromkeys(map(int, op.outputs), op)

    def quantize(self, graph: Any, first: int, made: int) -> None:
        found, source = _range(graph.tensors[made]), self.sources.get(first, first)
        if first == source and self.ranges.get(source, found) != found and source in self._makers:
            source = self._twin(graph, source)
        self.ranges.setdefault(source, found)
        self.sources[made] = source

    def _twin(self, graph: Any, index: int) -> int:
        """Duplicates an operator: the converter merges equal operators even if their ranges differ."""
        op, tensor = copy.copy(self._makers[index]), copy.copy(graph.tensors[index])
        twin = len(graph.tensors)
        tensor.name = f"{text_of(tensor.name)}_{twin}"
        graph.tensors.append(tensor)
        op.outputs = [twin if int(one) == index else int(one) for one in op.outputs]
        self.keep(op)
        return twin


def _reconnect(parsed: Any, sources: Mapping[int, int]) -> None:
    """Replaces graph outputs that came from a removed pair by the tensor before it, under the same name."""
    graph = parsed.subgraphs[0]
    for position, index in enumerate(graph.outputs or ()):
        source = sources.get(int(index))
        if source is not None:
            graph.tensors[source].name, graph.tensors[index].name = (
                graph.tensors[index].name,
                graph.tensors[source].name,
            )
            graph.outputs[position] = source
    for signature in parsed.signatureDefs or []:
        for entry in signature.outputs or ():
            entry.tensorIndex = sources.get(int(entry.tensorIndex), int(entry.tensorIndex))


def _spread(parsed: Any, ranges: dict[int, Range]) -> None:
    """Adds the ranges of operators with equal input and output ranges, and fixed output ranges."""
    graph = parsed.subgraphs[0]
    names = [code_name(code) for code in parsed.operatorCodes]
    for op in reversed(graph.operators):
        if names[op.opcodeIndex] in SAME_RANGE and int(op.outputs[0]) in ranges:
            for index in _inputs(parsed, op):
                ranges.setdefault(index, ranges[int(op.outputs[0])])
    for op in graph.operators:
        name = names[op.opcodeIndex]
        found = [ranges[index] for index in _inputs(parsed, op) if index in ranges]
        for index in map(int, op.outputs):
            if name in _FIXED and found:
                ranges.setdefault(index, _FIXED[name])
            elif name in SAME_RANGE and found:
                ranges.setdefault(index, (min(low for low, _ in found), max(high for _, high in found)))


def _activations(parsed: Any, op: Any) -> Iterator[int]:
    yield from _inputs(parsed, op)
    yield from map(int, op.outputs)


def _inputs(parsed: Any, op: Any) -> Iterator[int]:
    """The inputs of an operator that are not constants."""
    tensors = parsed.subgraphs[0].tensors
    for index in map(int, op.inputs):
        if index >= 0 and parsed.buffers[tensors[index].buffer].data is None:
            yield index


def _range(tensor: Any) -> Range:
    types = load_schema().TensorType
    lowest = {types.UINT8: 0, types.INT8: -128}.get(tensor.type)
    if lowest is None:
        raise EffkerasError(
            f"{text_of(tensor.name)!r} is not fake-quantized to 8 bits; export the model again"
        )
    scale, zero = (float(values[0]) for values in quantization_of(tensor))
    return scale * (lowest - zero), scale * (lowest + 255 - zero)
