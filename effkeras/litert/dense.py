"""Dense layers of a .tflite as convolutions of one pixel, for devices without per-channel dense weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import _code_index, _code_name, _pack, _parse, _schema, _text


def dense_as_convolutions(model: bytes) -> bytes:
    """The file with every FULLY_CONNECTED whose weights have a scale per channel as a CONV_2D.

    Weights, biases, scales and results stay bit for bit. The Edge TPU's compiler knows per-channel weights of
    convolutions only: per-channel dense layers came to LiteRT years after it.
    """
    parsed = _parse(model)
    graph = parsed.subgraphs[0]
    names = [_code_name(code) for code in parsed.operatorCodes]
    for node in list(graph.operators):
        if names[node.opcodeIndex] == "FULLY_CONNECTED" and _is_per_channel(graph.tensors[node.inputs[1]]):
            _convert(parsed, node)
    return _pack(parsed)


def _is_per_channel(weights: Any) -> bool:
    scales = weights.quantization.scale if weights.quantization else None
    return scales is not None and len(scales) > 1


def _convert(parsed: Any, node: Any) -> None:
    """Makes the node a convolution, between two nodes that give and take away the picture's dimensions."""
    schema, graph = _schema(), parsed.subgraphs[0]
    weights = graph.tensors[node.inputs[1]]
    outputs, inputs = (int(side) for side in weights.shape)
    weights.shape = [outputs, 1, 1, inputs]
    given, made = node.inputs[0], node.outputs[0]
    pixel = _like(parsed, given, [1, 1, 1, inputs])
    answer = _like(parsed, made, [1, 1, 1, outputs])
    place = graph.operators.index(node)
    before = _reshape(parsed, given, pixel, [1, 1, 1, inputs])
    after = _reshape(parsed, answer, made, [int(side) for side in graph.tensors[made].shape])
    graph.operators[place : place + 1] = [before, node, after]
    node.inputs = [pixel, *node.inputs[1:]]
    node.outputs = [answer]
    activation = node.builtinOptions.fusedActivationFunction
    node.opcodeIndex = _code_index(parsed, schema.BuiltinOperator.CONV_2D)
    node.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    node.builtinOptions = schema.Conv2DOptionsT(
        padding=schema.Padding.VALID,
        strideW=1,
        strideH=1,
        fusedActivationFunction=activation,
        dilationWFactor=1,
        dilationHFactor=1,
    )


def _like(parsed: Any, index: int, shape: list[int]) -> int:
    """A new tensor of the same type and scale in another shape."""
    tensors = parsed.subgraphs[0].tensors
    one = tensors[index]
    name = f"{_text(one.name)}_pixel"
    tensors.append(
        _schema().TensorT(shape=shape, type=one.type, name=name, quantization=one.quantization, buffer=0)
    )
    return len(tensors) - 1


def _reshape(parsed: Any, given: int, made: int, shape: list[int]) -> Any:
    schema, tensors = _schema(), parsed.subgraphs[0].tensors
    parsed.buffers.append(schema.BufferT(data=np.frombuffer(np.array(shape, np.int32).tobytes(), np.uint8)))
    name = f"{_text(tensors[made].name)}_shape"
    kind, buffer = schema.TensorType.INT32, len(parsed.buffers) - 1
    tensors.append(schema.TensorT(shape=[len(shape)], type=kind, name=name, buffer=buffer))
    return schema.OperatorT(
        opcodeIndex=_code_index(parsed, schema.BuiltinOperator.RESHAPE),
        inputs=[given, len(tensors) - 1],
        outputs=[made],
        builtinOptionsType=schema.BuiltinOptions.ReshapeOptions,
        builtinOptions=schema.ReshapeOptionsT(newShape=shape),
    )
