"""Functional networks without a definition of ours, small enough to train in a test."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

SIDE = 8


def two_heads() -> keras.Model:
    """A network with every kind of layer that has a kernel, a shared head and two outputs."""
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = layers.BatchNormalization(name="first_bn")(x)
    x = layers.Activation("swish", name="first_act")(x)
    x = layers.Conv2D(16, 1, name="expand")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(x)
    small = layers.SeparableConv2D(12, 3, strides=2, padding="same", activation="relu", name="separable")(x)
    large = layers.Conv2DTranspose(12, 2, strides=2, name="enlarge")(small)
    head = layers.Conv2D(4, 3, padding="same", name="boxes")
    boxes = [
        layers.Reshape((-1, 4), name=f"rows{index}")(head(one)) for index, one in enumerate((large, small))
    ]
    boxes = layers.Concatenate(axis=1, name="all_boxes")(boxes)
    mean = layers.GlobalAveragePooling2D(name="mean")(small)
    scores = layers.Dense(5, name="scores")(layers.Dense(20, activation="relu", name="hidden")(mean))
    return keras.Model(image, {"boxes": boxes, "scores": scores}, name="two_heads")


def nested() -> keras.Model:
    """A classifier whose first half is a model, and whose end is a Sequential."""
    inner = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, name="first")(inner)
    features = keras.Model(inner, layers.Conv2D(16, 1, name="second")(x), name="features")
    head = keras.Sequential([layers.Flatten(name="flat"), layers.Dense(3, name="scores")], name="head")
    image = keras.Input((SIDE, SIDE, 3))
    return keras.Model(image, head(features(image)), name="nested")


def plain(units: int = 24) -> keras.Model:
    """A classifier of three classes: two convolutions and two dense layers."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(image)
    x = layers.Conv2D(16, 1, activation="relu", name="second")(x)
    x = layers.Dense(units, activation="relu", name="hidden")(layers.Flatten(name="flat")(x))
    return keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x), name="plain")


def examples(count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, SIDE, SIDE, 3) and classes that a network can learn from them."""
    random = np.random.default_rng(3)
    labels = np.arange(count) % 3
    images = random.normal(size=(count, SIDE, SIDE, 3)) + 2 * labels[:, None, None, None]
    return images.astype(np.float32), labels
