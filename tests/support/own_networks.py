"""A network of a user's own, without any definition, and what runs its artifacts."""

from __future__ import annotations

import functools

import keras
import numpy as np

from quantize.precision.measurements import run_all

SIDE = 24


@functools.cache
def own_network(activation: str = "relu", classes: int = 5) -> keras.Model:
    """Convolutions of all kinds with batch normalisation, a residual addition, and a dense end."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(pixels)
    x = block(x, keras.layers.Conv2D(8, 3, strides=2, padding="same", name="first"), activation)
    x = block(x, keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise"), activation)
    x = block(x, keras.layers.Conv2D(12, 1, name="project"), None)
    y = block(x, keras.layers.SeparableConv2D(12, 3, padding="same", name="separable"), activation)
    x = keras.layers.Add(name="join")([x, y])
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(classes, name="last")(x)
    model = keras.Model(pixels, logits, name="own")
    random = np.random.default_rng(0)
    for weight in model.weights:
        if "moving_variance" in weight.path or "gamma" in weight.path:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif "moving_mean" in weight.path or "beta" in weight.path or "bias" in weight.path:
            weight.assign(random.normal(0, 0.2, weight.shape))
    return model


def block(x, layer, activation):
    x = keras.layers.BatchNormalization(name=f"{layer.name}_bn")(layer(x))
    return x if activation is None else keras.layers.Activation(activation, name=f"{layer.name}_act")(x)


def own_images(count: int, seed: int = 0) -> np.ndarray:
    """float32 (count, SIDE, SIDE, 3): smooth, each of its own tint."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (count, 6, 6, 3)) * 0.6 + random.uniform(0, 100, (count, 1, 1, 3))
    return np.rint(coarse.repeat(SIDE // 6, axis=1).repeat(SIDE // 6, axis=2)).astype(np.float32)


def outputs_of(flatbuffer: bytes, pixels: np.ndarray) -> np.ndarray:
    """The only output of an artifact with float edges, (count, ...)."""
    return np.concatenate([next(iter(one.values())) for one in run_all(flatbuffer, pixels[:, None])])
