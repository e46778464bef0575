"""The auxiliary head of cell networks: a second classifier, half way, that exists in training only.

Its loss reaches the early cells by a short way (NASNet paper, appendix A; weight 0.4). It is put on a
model that is complete without it and whose weights it shares: what is saved, evaluated and exported is
that model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import AUXILIARY
from effkeras.graph.functional import deep_graphs
from effkeras.graph.keras_net import KerasNet
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.training.pipeline import without_autograph


def auxiliary_weight(spec: ModelSpec) -> float:
    """The weight of the auxiliary loss that the definition asks for; 0 where there is no such head."""
    return 0.0 if spec.is_detector else spec.network.auxiliary_weight


def with_auxiliary(model: keras.Model) -> keras.Model:
    """A classifier together with its auxiliary head, to train both.

    Args:
        model: a classifier of cells, as `effkeras.build` makes it. Its layers are shared, so what is trained
            is this model; use it afterwards and forget the returned one.

    Returns:
        A model of the same input that gives a dict: the classifier's output under its own name,
        `probabilities` or `scores`, and `auxiliary`, (B, classes) of the same kind.

    Raises:
        EffkerasError: the model is no classifier of cells built by effkeras.
    """
    spec = spec_of(model)
    layer = "" if spec.is_detector else spec.network.auxiliary_layer
    if not layer:
        raise EffkerasError(f"{spec.name} is no classifier of cells: it has no auxiliary head")
    features = model.get_layer(layer).output
    last, dtype = model.get_layer(model.output_names[0]), model.get_layer("logits").dtype_policy.name
    logits = spec.network.auxiliary_logits(KerasNet(dtype), features, spec.classes)
    second = keras.layers.Activation(last.activation, dtype="float32", name=AUXILIARY)(logits)
    with deep_graphs():
        return keras.Model(model.input, {last.name: model.output, AUXILIARY: second}, name=model.name)


def auxiliary_losses(
    model: keras.Model, loss: Callable[[], keras.losses.Loss], weight: float = 0.4
) -> dict[str, Any]:
    """What `compile` needs beside the optimizer: `model.compile("adamw", **auxiliary_losses(...))`.

    Args:
        model: a model of `with_auxiliary`.
        loss: makes the loss that both outputs have.
        weight: how much the auxiliary loss counts; the classifier's counts 1.
    """
    weights = {name: weight if name == AUXILIARY else 1.0 for name in model.output}
    return {"loss": {name: loss() for name in weights}, "loss_weights": weights}


def auxiliary_targets(model: keras.Model, data: tf.data.Dataset) -> tf.data.Dataset:
    """(pixels, labels) batches as (pixels, the same labels for both outputs)."""
    names = list(model.output)
    return data.map(without_autograph(lambda pixels, labels: (pixels, dict.fromkeys(names, labels))))
