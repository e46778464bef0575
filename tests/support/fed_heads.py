"""A .tflite whose heads are what a test feeds in: suppression is tested without a network."""

from __future__ import annotations

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

import effkeras
from effkeras.definitions.definition import ModelSpec, NmsSpec
from effkeras.detection.boxes import anchor_boxes
from effkeras.litert.runner import make_interpreter, roles_of

CLASSES = 4


def spec_with(**nms: object) -> ModelSpec:
    """A detector's definition for images of 64 x 96 pixels."""
    spec = effkeras.spec("efficientdet-lite0")
    return spec.replace(
        input=dataclasses.replace(spec.input, size=(64, 96)),
        classes=CLASSES,
        labels=(),
        category_ids=(),
        nms=NmsSpec(**nms),  # type: ignore[arg-type]
    )


def anchor_count(spec: ModelSpec) -> int:
    return len(anchor_boxes(spec))


def fed_heads(spec: ModelSpec) -> bytes:
    """A .tflite that gives as `class_logits` and `box_deltas` what it is fed."""
    shapes = {"class_logits": (1, anchor_count(spec), spec.classes), "box_deltas": (1, anchor_count(spec), 4)}
    tensors, maps = [], ([], [])
    for kind, suffix in enumerate(("_fed", "")):
        for name, shape in shapes.items():
            maps[kind].append(schema.TensorMapT(name=name + suffix, tensorIndex=len(tensors)))
            tensors.append(
                schema.TensorT(shape=list(shape), type=schema.TensorType.FLOAT32, name=name + suffix)
            )
    code = schema.OperatorCodeT(
        deprecatedBuiltinCode=schema.BuiltinOperator.RESHAPE,
        builtinCode=schema.BuiltinOperator.RESHAPE,
        version=1,
    )
    nodes = [
        schema.OperatorT(
            opcodeIndex=0,
            inputs=[place],
            outputs=[place + 2],
            builtinOptionsType=schema.BuiltinOptions.ReshapeOptions,
            builtinOptions=schema.ReshapeOptionsT(newShape=list(shape)),
        )
        for place, shape in enumerate(shapes.values())
    ]
    graph = schema.SubGraphT(tensors=tensors, inputs=[0, 1], outputs=[2, 3], operators=nodes)
    model = schema.ModelT(
        version=3,
        operatorCodes=[code],
        subgraphs=[graph],
        buffers=[schema.BufferT()],
        signatureDefs=[schema.SignatureDefT(*maps, "serving_default", 0)],
    )
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def run(flatbuffer: bytes, logits: np.ndarray, deltas: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of one image by what they hold, for heads (N, classes) and (N, 4)."""
    answer = make_interpreter(flatbuffer).get_signature_runner()
    given = answer(class_logits_fed=logits[None], box_deltas_fed=deltas[None])
    roles = roles_of(flatbuffer)
    return {roles.get(name, name): values[0] for name, values in given.items()}


def heads(spec: ModelSpec, seed: int = 0, mean: float = -2.0) -> tuple[np.ndarray, np.ndarray]:
    """Random heads without ties: float32 (N, classes) and (N, 4)."""
    random = np.random.default_rng(seed)
    count = anchor_count(spec)
    logits = random.normal(mean, 2, (count, spec.classes)).astype(np.float32)
    return logits, random.normal(0, 0.4, (count, 4)).astype(np.float32)
