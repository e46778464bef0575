"""The definition of a model after its int8-friendly rewrite.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses

from effkeras.blocks import decode, encode
from effkeras.definition import ModelSpec
from effkeras.graph.counting import layer_channels
from effkeras.networks import Activation, BlockNetwork, CellNetwork, Network
from quantize.specs import FriendlySpec


def friendly_definition(spec: ModelSpec, how: FriendlySpec) -> ModelSpec:
    """The same definition with other activations and gates; `[channels]` of layers that are gone go too."""
    network = _squeezed(_activated(spec.network, how), how)
    fpn = spec.fpn and dataclasses.replace(spec.fpn, activation=_replaced(spec.fpn.activation, how))
    new = spec.replace(network=network, fpn=fpn, channels={})
    if not spec.channels:
        return new
    known = layer_channels(new)
    return new.replace(channels={name: width for name, width in spec.channels.items() if name in known})


def _activated(network: Network, how: FriendlySpec) -> Network:
    if not isinstance(network, BlockNetwork | CellNetwork):
        return network
    network = dataclasses.replace(network, activation=_replaced(network.activation, how))
    if not isinstance(network, BlockNetwork):
        return network
    return dataclasses.replace(network, blocks=tuple(_block(text, how) for text in network.blocks))


def _block(text: str, how: FriendlySpec) -> str:
    stage = decode(text)
    if stage.activation != "swish" or how.activation == "keep":
        return text
    return encode(dataclasses.replace(stage, activation=how.activation))


def _squeezed(network: Network, how: FriendlySpec) -> Network:
    if not isinstance(network, BlockNetwork) or how.squeeze == "keep":
        return network
    if how.squeeze == "remove":
        return dataclasses.replace(network, squeeze_excite=False)
    return dataclasses.replace(network, squeeze=dataclasses.replace(network.squeeze, gate="hard_sigmoid"))


def _replaced(activation: Activation, how: FriendlySpec) -> Activation:
    return how.activation if activation == "swish" and how.activation != "keep" else activation
