"""Networks that compute the same with badly spread channels: what plain 8-bit quantization breaks on."""

from __future__ import annotations

import keras
import numpy as np

from effkeras.rewrite import Graph, rewrite
from quantize.post_training.joints import CAP, Joint, divide_outputs, joints_of, multiply_inputs
from quantize.rewriting.folding import fold


def rescaled(model: keras.Model, pictures: np.ndarray, far: float = 1000.0, seed: int = 0) -> keras.Model:
    """The model with batch normalisation folded and channels made smaller by random factors of 1 to `far`.

    The next layer's weights make up for it. Channels that reach the cap of a relu6 on the pictures, (n, H, W,
    C), stay: there the function would change.
    """
    graph = Graph.of(fold(model).model)
    joints = [joint for joint in joints_of(graph) if isinstance(joint, Joint)]
    values = keras.Model(graph.model.input, [joint.between for joint in joints]).predict(pictures, verbose=0)
    changed = rewrite(graph, {})
    random = np.random.default_rng(seed)
    for joint, seen in zip(joints, values, strict=True):
        scale = np.exp(random.uniform(0, np.log(far), seen.shape[-1]))
        if joint.capped:
            scale = np.where(seen.max(axis=tuple(range(seen.ndim - 1))) < CAP - 1, scale, 1.0)
        divide_outputs(changed.get_layer(joint.producer.name), scale)
        for consumer in joint.consumers:
            multiply_inputs(changed.get_layer(consumer.name), scale)
    return changed
