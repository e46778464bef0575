"""The auxiliary head of cell networks: a second classifier on a middle layer, for training only.

Its loss reaches the early cells on a shorter path (NASNet paper, appendix A; weight 0.4). It is added to a
model that is complete without it and shares that model's weights. Only that model is saved, evaluated and
exported.
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
    """The weight of the auxiliary loss in the definition; 0 if the model has no such head."""
    return 0.0 if spec.is_detector else spec.network.auxiliary_weight


def with_auxiliary(model: keras.Model) -> keras.Model:
    """A classifier together with its auxiliary head, for training both.

    Args:
        model: a classifier of cells, as built by `effkeras.build`. Its layers are shared, so training the
            returned model trains this one; keep this one and discard the returned one.

    Returns:
        A model with the same input that returns a dict: the classifier's output under its own name,
        `probabilities` or `scores`, and `auxiliary`, (B, classes) of the same kind.

    Raises:
        EffkerasError: the model is not a classifier of cells built by effkeras.
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
    """Arguments of `compile` besides the optimizer: `model.compile("adamw", **auxiliary_losses(...))`.

    Args:
        model: a model of `with_auxiliary`.
        loss: creates the loss, once per output.
        weight: the weight of the auxiliary loss; that of the classifier's loss is 1.
    """
    weights = {name: weight if name == AUXILIARY else 1.0 for name in model.output}
    return {"loss": {name: loss() for name in weights}, "loss_weights": weights}


def auxiliary_targets(model: keras.Model, data: tf.data.Dataset) -> tf.data.Dataset:
    """Turns (pixels, labels) batches into (pixels, the same labels for both outputs)."""
    names = list(model.output)
    return data.map(without_autograph(lambda pixels, labels: (pixels, dict.fromkeys(names, labels))))
