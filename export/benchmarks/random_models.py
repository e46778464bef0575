"""Models, images and artifacts for benchmarks that need no trained weights or real images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from effkeras.graph.rewrite import Graph, rewrite
from quantize.formats import find
from quantize.post_training.artifact import FloatParts
from quantize.post_training.equalization import (
    CAP,
    ROOM,
    LayerPair,
    channel_ranges,
    divide_outputs,
    layer_pairs,
    multiply_inputs,
)
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts, quantize_pixels, ranges_of
from quantize.post_training.ranges import Ranges
from quantize.rewriting.folding import fold

if TYPE_CHECKING:
    from quantize.formats import IoType

IMAGES = 4
STATISTICS_IMAGES = 2  # on which the statistics of batch norms are measured


def random_images(shape: Sequence[int], images: int = IMAGES, seed: int = 0) -> list[np.ndarray]:
    """Images of random pixels 0..255, float32 (1, H, W, C) each; `shape` is (H, W, C)."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (1, *shape)).astype(np.float32) for _ in range(images)]


def artifacts_on_random_images(
    model: keras.Model,
    recipes: Sequence[str],
    io: IoType = "float32",
    *,
    smaller: keras.Model | None = None,
) -> dict[str, bytes]:
    """A .tflite for each recipe, from one conversion.

    Args:
        model: a Keras model with a static input size.
        recipes: names of post-training recipes.
        io: the type of the artifacts' inputs and outputs.
        smaller: the same network and weights at a smaller input size, on which ranges are measured instead:
            calibration reads every activation, and those of D7x at 1,536 pixels take 35 GB an image.

    Raises:
        EffkerasError: a recipe does not exist.
    """
    options = {name: PtqOptions(find(name), io) for name in recipes}
    first = next(iter(options.values()))
    # The smaller one first: its conversion is freed before the other one starts.
    ranges = {} if smaller is None else _ranges(float_parts(smaller, first), options)
    parts = float_parts(model, first)
    ranges = ranges or _ranges(parts, options)
    return {
        name: quantize_pixels(parts, one, (), ranges.get(name)).flatbuffer for name, one in options.items()
    }


def _ranges(parts: FloatParts, options: Mapping[str, PtqOptions]) -> dict[str, Ranges]:
    """The activation ranges for each recipe that needs calibration."""
    pixels = random_images(parts.shape)
    return {name: ranges_of(parts, one, pixels) for name, one in options.items() if one.format.needs_data}


def draw_statistics(model: keras.Model, seed: int = 0) -> None:
    """Draws a scale, an offset and statistics for every batch norm, similar to trained ones."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(random.uniform(0.5, 2, shape))
            layer.beta.assign(random.normal(0, 0.5, shape))
            layer.moving_mean.assign(random.normal(0, 0.5, shape))
            layer.moving_variance.assign(random.uniform(0.3, 3, shape))


def measure_statistics(model: keras.Model) -> None:
    """Sets the statistics of every batch norm to those of its inputs on `random_images`."""
    import tensorflow as tf

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    pixels = np.concatenate(random_images(model.inputs[0].shape[1:], STATISTICS_IMAGES))
    # As a graph, because an eager Keras call keeps all activations in memory.
    tf.function(lambda shown: model(shown, training=True), autograph=False)(tf.constant(pixels))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def rescaled(
    model: keras.Model,
    images: Iterable[np.ndarray],
    *,
    largest: float = 256.0,
    everywhere: bool = False,
    seed: int = 0,
) -> keras.Model:
    """An equivalent model with batch norm folded and depthwise channels of very different ranges.

    The output channels of each depthwise convolution are divided by random factors, and the next layer's
    weights are multiplied by them. Channels that reach the cap of relu6 are left alone, because scaling them
    would change the outputs.

    Args:
        model: any functional Keras model with one input; it is not modified.
        images: model inputs, float32 (1, H, W, C) each, which show the channels that reach the cap.
        largest: factors are log-uniform between 1 and this.
        everywhere: also scale the outputs of layers other than depthwise convolutions.
        seed: seed of the random factors.
    """
    graph = Graph.of(fold(model).model)
    pairs = [
        one
        for one in layer_pairs(graph)
        if isinstance(one, LayerPair)
        and (everywhere or isinstance(one.producer, keras.layers.DepthwiseConv2D))
    ]
    ranges = channel_ranges(graph.model, [pair.between for pair in pairs], list(images))
    random = np.random.default_rng(seed)
    changed = rewrite(graph, {})
    for pair, extent in zip(pairs, ranges, strict=True):
        factors = np.exp(random.uniform(0, np.log(largest), len(extent)))
        if pair.capped:
            factors = np.where(extent < ROOM * CAP, factors, 1.0)
        divide_outputs(changed.get_layer(pair.producer.name), factors)
        for consumer in pair.consumers:
            multiply_inputs(changed.get_layer(consumer.name), factors)
    return changed
