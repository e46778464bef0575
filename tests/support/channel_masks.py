"""What tests of channel pruning hold a pruned model against."""

from __future__ import annotations

import keras
import numpy as np

from quantize.channels.groups import Channels


def random_stays(channels: Channels, seed: int) -> np.ndarray:
    """Which units stay, at random: at least one of each free group, all of the others."""
    random = np.random.default_rng(seed)
    stays = np.ones(int(channels.unit.max()) + 1, bool)
    for index in channels.free:
        units = random.permutation(channels.groups[index].units)
        stays[units[: random.integers(0, len(units))]] = False
    return stays


def unheard(model: keras.Model, channels: Channels, stays: np.ndarray) -> keras.Model:
    """A copy of full size in which no kernel listens to the channels that go."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for flow in channels.flow.layers.values():
        if flow.mixed is not None:
            layer = copy.get_layer(flow.layer.name)
            values = layer.get_weights()
            kernel = np.moveaxis(values[flow.mixed.weight], flow.mixed.axis, 0)
            kernel[~stays[channels.unit[flow.mixed.numbers]]] = 0
            layer.set_weights(values)
    return copy


def outputs(model: keras.Model, pixels: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(one, np.float32) for one in keras.tree.flatten(model(pixels, training=False))]


def largest_error(model: keras.Model, other: keras.Model, seed: int = 0) -> float:
    """The largest difference of two models' outputs on random images, in standard deviations."""
    random = np.random.default_rng(seed)
    pixels = random.uniform(0, 255, (2, *model.inputs[0].shape[1:])).astype(np.float32)
    pairs = zip(outputs(model, pixels), outputs(other, pixels), strict=True)
    return max(float(np.abs(one - two).max() / one.std()) for one, two in pairs)
