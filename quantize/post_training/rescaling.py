"""A model made hard to quantize without changing what it computes: the opposite of equalisation.

Trained networks with depthwise convolutions have channels of very different ranges (Nagel et al. 2019, figure
2). This makes any network so, to measure what a way of quantizing makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from effkeras.rewrite import Graph, rewrite
from quantize.post_training.equalization import ROOM, channel_ranges
from quantize.post_training.joints import CAP, Joint, divide_outputs, joints_of, multiply_inputs
from quantize.rewriting.folding import fold


def rescaled(
    model: keras.Model,
    pictures: Iterable[np.ndarray],
    *,
    largest: float = 256.0,
    everywhere: bool = False,
    seed: int = 0,
) -> keras.Model:
    """The same function with depthwise channels of very different ranges, batch norm folded.

    The output channels of each depthwise convolution are divided by random factors, and the next layer's
    weights multiplied by them, where that changes nothing: a channel that reaches the cap of relu6 is left
    alone.

    Args:
        model: any functional Keras model with one input; it stays as it is.
        pictures: what the model takes, float32 (1, H, W, C) each, to see which channels reach the cap.
        largest: factors are log-uniform between 1 and this.
        everywhere: also scale what other layers than depthwise convolutions put out.
        seed: which factors.
    """
    graph = Graph.of(fold(model).model)
    joints = [
        one
        for one in joints_of(graph)
        if isinstance(one, Joint) and (everywhere or isinstance(one.producer, keras.layers.DepthwiseConv2D))
    ]
    ranges = channel_ranges(graph.model, [joint.between for joint in joints], list(pictures))
    random = np.random.default_rng(seed)
    changed = rewrite(graph, {})
    for joint, extent in zip(joints, ranges, strict=True):
        factors = np.exp(random.uniform(0, np.log(largest), len(extent)))
        if joint.capped:
            factors = np.where(extent < ROOM * CAP, factors, 1.0)
        divide_outputs(changed.get_layer(joint.producer.name), factors)
        for consumer in joint.consumers:
            multiply_inputs(changed.get_layer(consumer.name), factors)
    return changed
