"""The definition of a model after its int8-friendly rewrite.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import Activation, Network
from effkeras.graph.counting import layer_channels
from quantize.specs import FriendlySpec


def friendly_definition(spec: ModelSpec, how: FriendlySpec) -> ModelSpec:
    """The definition with replaced activations and gates; `[channels]` loses layers that no longer exist."""
    network = spec.network.with_activations(lambda activation: _replaced(activation, how))
    network = _with_gate(network, how)
    fpn = spec.fpn and dataclasses.replace(spec.fpn, activation=_replaced(spec.fpn.activation, how))
    new = spec.replace(network=network, fpn=fpn, channels={})
    if not spec.channels:
        return new
    known = layer_channels(new)
    return new.replace(channels={name: width for name, width in spec.channels.items() if name in known})


def _with_gate(network: Network, how: FriendlySpec) -> Network:
    if how.squeeze == "keep":
        return network
    return network.with_gate(None if how.squeeze == "remove" else "hard_sigmoid")


def _replaced(activation: Activation, how: FriendlySpec) -> Activation:
    return how.activation if activation == "swish" and how.activation != "keep" else activation
