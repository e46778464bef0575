"""Small models of each kind with weights that no layer ignores, and what tests make of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.definition import ModelSpec
from effkeras.litert.flatbuffer import operators, real_constants
from effkeras.litert.rewriting import with_constants
from quantize.formats import find
from quantize.post_training.artifact import FloatParts, Quantized
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts, quantize_pixels
from support.eager import outputs_of_model

SIDE = 64
DETECTORS = ("efficientdet-lite0", "efficientdet-d0")
CLASSIFIERS = ("efficientnet-lite0", "efficientnet-b0")


def tiny_spec(name: str) -> ModelSpec:
    spec = effkeras.spec(name)
    network = dataclasses.replace(spec.network, width=0.35, depth=0.3)
    spec = spec.replace(
        network=network,
        input=dataclasses.replace(spec.input, size=(SIDE, SIDE)),
        classes=3,
        labels=(),
        category_ids=(),
    )
    if not spec.is_detector:
        return spec
    fpn = dataclasses.replace(spec.fpn, channels=24, cells=1)
    return spec.replace(fpn=fpn, head=dataclasses.replace(spec.head, repeats=1))


@functools.cache
def tiny_model(name: str) -> keras.Model:
    model = build_spec(tiny_spec(name))
    # Without more gain swish and the gates let the signal die out before the classifier.
    randomize(model, gain=3.0 if name == "efficientnet-b0" else 1.5)
    return model


def randomize(model: keras.Model, gain: float = 1.5) -> None:
    """Gives all weights and statistics random values that no layer ignores."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(_value(weight, random, gain))
    if "logits" in {layer.name for layer in model.layers}:
        _balance(model)


def _balance(model: keras.Model) -> None:
    """Lets every class win sometimes: an untrained classifier says the same of all images."""
    last = model.get_layer("logits")
    logits = outputs_of_model(
        keras.Model(model.input, last.output), random_images(24, side=model.input.shape[1])
    )
    scale = 2 / logits.std(axis=0)
    last.kernel.assign(last.kernel * scale)
    last.bias.assign(-logits.mean(axis=0) * scale)


def _value(weight, random, gain: float) -> np.ndarray:
    name, shape = weight.path.rsplit("/", 1)[-1], weight.shape
    if name in ("moving_variance", "gamma"):
        return random.uniform(0.5, 1.5, shape)
    if name in ("moving_mean", "beta"):
        return random.normal(0, 0.2, shape)
    if name == "bias":
        return np.zeros(shape)
    if shape == ():
        return random.uniform(0.2, 1.5)
    inputs = shape[:2] if "depthwise" in weight.path else shape[:-1]
    return random.normal(0, np.sqrt(gain / np.prod(inputs)), shape)


def random_images(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Coarse random images, float32 (count, side, side, 3), whole pixels 0..255, each of its own tint."""
    random = np.random.default_rng(seed)
    tint = random.uniform(0, 255, (count, 1, 1, 3))
    coarse = (random.uniform(0, 255, (count, 8, 8, 3)) + tint) / 2
    return np.rint(coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)).astype(np.float32)


def keras_outputs(model: keras.Model, pixels: np.ndarray) -> dict[str, np.ndarray]:
    outputs = outputs_of_model(model, pixels)
    return outputs if isinstance(outputs, dict) else {model.output_names[0]: outputs}


@functools.cache
def parts(name: str, io: str) -> FloatParts:
    return float_parts(tiny_model(name), PtqOptions(find("int8"), io))


@functools.cache
def quantized(name: str, recipe: str, io: str = "float32") -> Quantized:
    one_of_two = "float32" if io == "float32" else "int8"
    options = PtqOptions(find(recipe), io)
    return quantize_pixels(parts(name, one_of_two), options, random_images(8)[:, None])


def decibels(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(20 * np.log10(wanted.std() / (wanted - got).std()))


def keeping_all(flatbuffer: bytes):
    """An interpreter without XNNPACK whose every tensor can be read."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=flatbuffer,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def with_last_weights(flatbuffer: bytes, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The file with other values in the weights of its last dense or convolutional layer."""
    last = [op for op in operators(flatbuffer) if op.name in ("FULLY_CONNECTED", "CONV_2D")][-1]
    found = real_constants(flatbuffer, [last.inputs[1].index])
    return with_constants(
        flatbuffer, {index: one.codes_of(change(one.values)) for index, one in found.items()}
    )
