"""A copy of a model without some of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from effkeras.graph.applications import narrowed
from effkeras.graph.channel_flow import LayerFlow
from effkeras.graph.functional import Config, CopyRules
from effkeras.layers import Normalize
from effkeras.rewrite import copied
from quantize.channels.groups import Channels


def without_channels(
    model: keras.Model, channels: Channels, stays: np.ndarray, definition: str = ""
) -> keras.Model:
    """A copy of a flat model that only has the units that stay, bool (U,), with the weights that are left.

    `definition` takes the place of the one that the model carries, if it carries one.
    """
    layers = channels.flow.layers
    left = stays[channels.unit]

    def change(layer: Any, config: Config) -> Config:
        config = _with_dtype(layer, config)
        if isinstance(layer, Normalize) and layer.definition and definition:
            return {**config, "definition": definition}
        flow = layers.get(layer.name)
        if flow is None or flow.width is None:
            return config
        return _narrowed(layer, config, int(left[flow.width].sum()))

    copy = copied(model, CopyRules(change=change))
    for layer in model.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(_sliced(layer, layers, left))
    return copy


def _with_dtype(layer: Any, config: Config) -> Config:
    """The config with the layer's own policy: a network may mix them."""
    if not isinstance(layer, keras.Layer):
        return config
    return {**config, "dtype": layer.get_config()["dtype"]}


def _narrowed(layer: Any, config: Config, width: int) -> Config:
    if isinstance(layer, keras.layers.Reshape):
        return {**config, "target_shape": (*layer.target_shape[:-1], width)}
    return narrowed(config, width)


def _sliced(layer: Any, layers: Mapping[str, LayerFlow], left: np.ndarray) -> list[np.ndarray]:
    """The layer's weights without the channels that go."""
    values = layer.get_weights()
    flow = layers.get(layer.name)
    for one in flow.slices if flow else ():
        values[one.weight] = np.compress(left[one.numbers], values[one.weight], axis=one.axis)
    return values
