"""Rewrites an int8 .tflite into operators that the Edge TPU compiler supports, with equal results.

The compiler dates from 2021. It supports no FULLY_CONNECTED with per-channel scales. It maps upsampling as
one operator, whereas effkeras writes it as concatenations and reshapes for the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.litert.tree import (
    add_constant,
    code_index,
    code_name,
    load_schema,
    pack,
    parse,
    readers_of,
    text_of,
)
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import read_toml

# The custom operator into which edgetpu_compiler turns the operators that it maps.
COMPILED = "edgetpu-custom-op"
_VERSIONS = Path(__file__).with_name("int8_versions.toml")
_ENLARGEMENT = ("CONCATENATION", "RESHAPE", "CONCATENATION", "RESHAPE")


def is_compiled(model: bytes) -> bool:
    """Whether edgetpu_compiler wrote the file. Raises EffkerasError for a corrupt one."""
    return any(code_name(code) == COMPILED for code in parse(model).operatorCodes)


def for_edge_tpu(model: bytes) -> bytes:
    """The file with equal results, in operators that `edgetpu_compiler` maps.

    - `effkeras.layers.NearestUpsample`, four or five operators, becomes RESIZE_NEAREST_NEIGHBOR.
    - FULLY_CONNECTED with per-channel scales becomes a CONV_2D over one pixel.
    - Int8 operators state the version that TensorFlow's converter states for them.

    Raises EffkerasError for a corrupt file.
    """
    parsed = parse(model)
    try:
        _join_enlargements(parsed)
        _dense_to_convolutions(parsed)
        _state_versions(parsed)
        return pack(parsed)
    except Exception as error:  # a damaged file may raise anything
        raise EffkerasError(
            f"the .tflite is damaged ({type(error).__name__}); export the model again"
        ) from error


def _join_enlargements(parsed: Any) -> None:
    graph = parsed.subgraphs[0]
    readers = readers_of(graph)
    for start in list(graph.operators):
        chain = _enlargement(parsed, start, readers)
        if chain:
            source, result = start.inputs[0], chain[-1].outputs[0]
            position = graph.operators.index(chain[-1])
            graph.operators[position] = _resize(parsed, source, result)
            gone = set(map(id, chain))
            graph.operators = [op for op in graph.operators if id(op) not in gone]


def _enlargement(parsed: Any, start: Any, readers: dict[int, list[Any]]) -> list[Any]:
    """The operators of a NearestUpsample that begins at `start`; empty if none begins there."""
    chain = [start]
    for name in _ENLARGEMENT[1:]:
        following = _only_reader(parsed, chain[-1], readers)
        if following is None or _name(parsed, following) != name:
            return []
        chain.append(following)
    cut = _only_reader(parsed, chain[-1], readers)
    if cut is not None and _name(parsed, cut) == "STRIDED_SLICE" and _doubles(parsed, [*chain, cut]):
        return [*chain, cut]
    return chain if _doubles(parsed, chain) else []


def _doubles(parsed: Any, chain: list[Any]) -> bool:
    """Whether a chain of operators repeats every row and column twice, except perhaps the last ones."""
    if _name(parsed, chain[0]) != "CONCATENATION" or not _twice(chain[0]) or not _twice(chain[2]):
        return False
    tensors = parsed.subgraphs[0].tensors
    source, result = tensors[chain[0].inputs[0]], tensors[chain[-1].outputs[0]]
    if len(source.shape) != 4 or source.shape[0] != 1:
        return False
    _, high, wide, deep = map(int, source.shape)
    between = [list(map(int, tensors[op.outputs[0]].shape)) for op in chain[:4]]
    expected = [
        [1, high, wide, 2 * deep],
        [1, high, 1, 2 * wide * deep],
        [1, high, 2, 2 * wide * deep],
        [1, 2 * high, 2 * wide, deep],
    ]
    return between == expected and _same_scale(source, result) and _is_crop(parsed, chain[4:], source)


def _is_crop(parsed: Any, cut: list[Any], source: Any) -> bool:
    """Whether the slice, if any, removes at most the last row and column of a map of twice `source`."""
    if not cut:
        return True
    tensors = parsed.subgraphs[0].tensors
    begin, stride = (_constant(parsed, cut[0].inputs[position]) for position in (1, 3))
    options = cut[0].builtinOptions
    masks = options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask
    first = [0 if options.beginMask >> axis & 1 else int(at) for axis, at in enumerate(begin)]
    shape, whole = list(map(int, tensors[cut[0].outputs[0]].shape)), list(map(int, source.shape))
    sides = [(2 * whole[axis] - 1, 2 * whole[axis]) for axis in (1, 2)]
    fits = all(side in allowed for side, allowed in zip(shape[1:3], sides, strict=True))
    return fits and not masks and not any(first) and set(stride.tolist()) == {1} and shape[3] == whole[3]


def _resize(parsed: Any, source: int, result: int) -> Any:
    """Nearest without half-pixel centres: output pixel i copies floor(i * n / m), which is i // 2 here."""
    schema = load_schema()
    _, high, wide, _ = parsed.subgraphs[0].tensors[result].shape
    size = add_constant(parsed, np.array([high, wide], np.int32), f"{_label(parsed, result)}_size")
    return schema.OperatorT(
        opcodeIndex=code_index(parsed, schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR),
        inputs=[source, size],
        outputs=[result],
        builtinOptionsType=schema.BuiltinOptions.ResizeNearestNeighborOptions,
        builtinOptions=schema.ResizeNearestNeighborOptionsT(alignCorners=False, halfPixelCenters=False),
    )


def _dense_to_convolutions(parsed: Any) -> None:
    graph = parsed.subgraphs[0]
    operators: list[Any] = []
    for op in graph.operators:
        is_dense = _name(parsed, op) == "FULLY_CONNECTED" and _is_per_channel(parsed, op)
        operators.extend(_as_convolution(parsed, op) if is_dense else [op])
    graph.operators = operators


def _is_per_channel(parsed: Any, op: Any) -> bool:
    tensors, schema = parsed.subgraphs[0].tensors, load_schema()
    source, kernel, result = (tensors[index] for index in (op.inputs[0], op.inputs[1], op.outputs[0]))
    one_row = np.prod(result.shape[:-1]) == 1 == np.prod(source.shape) / kernel.shape[1]
    int8 = source.type == kernel.type == result.type == schema.TensorType.INT8
    return bool(one_row and int8 and len(kernel.quantization.scale) > 1)


def _as_convolution(parsed: Any, op: Any) -> Iterable[Any]:
    """A dense layer on one row as a convolution over one pixel, between two reshapes."""
    schema = load_schema()
    source, kernel = op.inputs[0], op.inputs[1]
    filters, channels = map(int, parsed.subgraphs[0].tensors[kernel].shape)
    pixel = _reshaped(parsed, source, [1, 1, 1, channels])
    made = _reshaped(parsed, op.outputs[0], [1, 1, 1, filters])
    if pixel != source:
        yield _reshape(parsed, source, pixel)
    yield schema.OperatorT(
        opcodeIndex=code_index(parsed, schema.BuiltinOperator.CONV_2D),
        inputs=[pixel, _reshaped(parsed, kernel, [filters, 1, 1, channels]), _bias(parsed, op)],
        outputs=[made],
        builtinOptionsType=schema.BuiltinOptions.Conv2DOptions,
        builtinOptions=schema.Conv2DOptionsT(
            padding=schema.Padding.VALID,
            strideW=1,
            strideH=1,
            fusedActivationFunction=op.builtinOptions.fusedActivationFunction,
        ),
    )
    if made != op.outputs[0]:
        yield _reshape(parsed, made, op.outputs[0])


def _bias(parsed: Any, op: Any) -> int:
    """The bias, or zeros: the Edge TPU compiler is only known to accept convolutions with a bias."""
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        return int(op.inputs[2])
    tensors = parsed.subgraphs[0].tensors
    source, kernel = tensors[op.inputs[0]], tensors[op.inputs[1]]
    zeros = np.zeros(kernel.shape[0], np.int32)
    index = add_constant(parsed, zeros, f"{_label(parsed, op.outputs[0])}_bias")
    scales = [float(source.quantization.scale[0]) * float(scale) for scale in kernel.quantization.scale]
    tensors[index].quantization = load_schema().QuantizationParametersT(
        scale=scales, zeroPoint=[0] * len(scales), quantizedDimension=0
    )
    return index


def _reshaped(parsed: Any, index: int, shape: list[int]) -> int:
    """The tensor itself if it has the shape, else a new one with it; a constant shares its buffer."""
    tensors = parsed.subgraphs[0].tensors
    if list(map(int, tensors[index].shape)) == shape:
        return int(index)
    twin = copy.copy(tensors[index])
    twin.name = f"{_label(parsed, index)}_{'x'.join(map(str, shape))}"
    twin.shape, twin.shapeSignature = shape, None
    tensors.append(twin)
    return len(tensors) - 1


def _reshape(parsed: Any, source: int, result: int) -> Any:
    schema = load_schema()
    shape = [int(side) for side in parsed.subgraphs[0].tensors[result].shape]
    wanted = add_constant(parsed, np.array(shape, np.int32), f"{_label(parsed, result)}_shape")
    return schema.OperatorT(
        opcodeIndex=code_index(parsed, schema.BuiltinOperator.RESHAPE),
        inputs=[source, wanted],
        outputs=[result],
        builtinOptionsType=schema.BuiltinOptions.ReshapeOptions,
        builtinOptions=schema.ReshapeOptionsT(newShape=shape),
    )


def _state_versions(parsed: Any) -> None:
    graph, int8 = parsed.subgraphs[0], load_schema().TensorType.INT8
    versions = read_toml(_VERSIONS)
    for op in graph.operators:
        code = parsed.operatorCodes[op.opcodeIndex]
        if any(graph.tensors[index].type == int8 for index in (*op.inputs[:1], *op.outputs)):
            code.version = max(code.version, versions.get(code_name(code), 1))


def _only_reader(parsed: Any, op: Any, readers: dict[int, list[Any]]) -> Any:
    found = readers[int(op.outputs[0])]
    return found[0] if len(found) == 1 else None


def _twice(op: Any) -> bool:
    return len(op.inputs) == 2 and op.inputs[0] == op.inputs[1]


def _same_scale(one: Any, other: Any) -> bool:
    if one.type != other.type or one.quantization is None or other.quantization is None:
        return False
    pairs = ((x.quantization.scale, x.quantization.zeroPoint) for x in (one, other))
    first, second = ([np.asarray(values).tolist() for values in pair] for pair in pairs)
    return first == second


def _constant(parsed: Any, index: int) -> np.ndarray:
    data = parsed.buffers[parsed.subgraphs[0].tensors[index].buffer].data
    return np.frombuffer(b"" if data is None else data.tobytes(), np.int32)


def _name(parsed: Any, op: Any) -> str:
    return code_name(parsed.operatorCodes[op.opcodeIndex])


def _label(parsed: Any, index: int) -> str:
    return text_of(parsed.subgraphs[0].tensors[index].name)
