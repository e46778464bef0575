"""Evaluation without training: a zero-cost proxy replaces the accuracy.

Synflow is always reported with parameters and MACs, which often rank candidates equally well (White et al.
2022, "A deeper look at zero-cost proxies for lightweight NAS"). NASWOT and the norm of the gradient ranked
the networks of `digits-tiny` no better than MACs did, so they are not offered.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from effkeras.building.models import build_spec
from effkeras.data.classes import spec_for_data
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import DropBlockSpec
from effkeras.graph.counting import cost
from effkeras.layers import Normalize
from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.images import SearchImages
from effkeras.search.evaluation.settings import (
    PROXIES,
    PROXY,
    Candidate,
    EvaluationSettings,
    Outcome,
    Report,
)
from effkeras.search.evaluation.training import Definitions
from effkeras.support.errors import EffkerasError

COUNTED = ("parameters", "macs")  # proxies for which no network is built


@dataclass(frozen=True, eq=False, slots=True)
class ProxyEvaluator:
    """Computes the proxy in the settings, and what costs next to nothing beside it: parameters and MACs.

    The proxy replaces the accuracy, mapped to 0..1 in the same order; the metrics hold the original values.
    """

    space: Definitions
    images: SearchImages
    settings: EvaluationSettings

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """Evaluates one candidate. Raises EffkerasError for one that cannot be built."""
        spec, name = self._definition(candidate), self.settings.kind.removeprefix(PROXY)
        try:
            found = proxies_of(spec, candidate.seed, {name, *COUNTED})
        finally:
            keras.backend.clear_session()
        accuracy = as_accuracy(found[name])
        report(1, accuracy)
        return Outcome(accuracy, found)

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """The costs of a candidate."""
        return cost_of(self._definition(candidate), self.settings.costs, self.settings.artifact)

    def _definition(self, candidate: Candidate) -> ModelSpec:
        return spec_for_data(self.space.spec(candidate.genome), self.images.splits.train)


def proxies_of(spec: ModelSpec, seed: int = 0, names: Collection[str] = PROXIES) -> dict[str, float]:
    """Proxies of one network; none needs data.

    Args:
        spec: the definition.
        seed: draws the random weights of which "synflow" is computed.
        names: what to compute: "synflow", which builds the network, "parameters" and "macs", which are
            counted in the definition.

    Returns:
        The proxies by name; larger values predict better networks.

    Raises:
        EffkerasError: a definition that cannot be built, or a value that is not finite.
    """
    found: dict[str, float] = {}
    if "synflow" in names:
        keras.utils.set_random_seed(seed)
        found["synflow"] = synflow(
            build_spec(_unbounded(_undisturbed(spec)), activation=None, dtype="float64")
        )
    if not {*COUNTED}.isdisjoint(names):
        counted = dict(zip(COUNTED, map(float, cost(spec)), strict=True))
        found |= {name: value for name, value in counted.items() if name in names}
    for name, value in found.items():
        if not math.isfinite(value):
            raise EffkerasError(f"{name} of the network {spec.name} is {value}")
    return found


def synflow(model: keras.Model) -> float:
    """Synflow: the sum of |weight * gradient| in a network whose weights are all made positive.

    Tanaka et al. 2020 (arXiv:2006.05467); as a proxy, Abdelfattah et al. 2021 (arXiv:2101.08134). The
    gradients are of the sum of the logits for an input of ones; the score is summed over the kernels. Batch
    normalization keeps its initial values, the identity. A bounded activation would stop the flow, so
    `proxies_of` replaces all activations with ReLU, which passes every positive value.

    Args:
        model: a model with random weights, which this function changes; float64 logits do not overflow in
            deep networks.
    """
    for weight in model.weights:
        if "seed_generator" not in weight.path:
            weight.assign(abs(weight))
    body = _body(model)
    kernels = _kernels(body)
    ones = tf.ones((1, *body.input_shape[1:]), kernels[0].dtype)
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.cast(tf.reduce_sum(y), tf.float64) for y in tf.nest.flatten(body(ones))])
    gradients = tape.gradient(total, kernels)
    return float(sum(np.abs(_array(w) * _array(g)).sum() for w, g in zip(kernels, gradients, strict=True)))


def as_accuracy(value: float) -> float:
    """Maps a proxy of 0 or more to 0..1 in the same order; only good for comparisons."""
    size = math.log10(1 + value)
    return size / (1 + size)


def _undisturbed(spec: ModelSpec) -> ModelSpec:
    """The definition without dropout of any kind, whose noise would change the proxies."""
    still: dict[str, Any] = {"dropout": 0.0, "survival": 1.0, "drop_block": DropBlockSpec()}
    changes = {name: value for name, value in still.items() if name in spec.network.regularizers()}
    return spec.replace(network=dataclasses.replace(spec.network, **changes))


def _unbounded(spec: ModelSpec) -> ModelSpec:
    """The definition with ReLU as every activation."""
    network = spec.network.with_activations(lambda activation: "relu")
    fpn = dataclasses.replace(spec.fpn, activation="relu") if spec.fpn else None
    return spec.replace(network=network, fpn=fpn)


def _kernels(model: keras.Model) -> list[Any]:
    return [weight for weight in model.trainable_weights if weight.name.endswith("kernel")]


def _body(model: keras.Model) -> keras.Model:
    """The model from the normalized image to the logits, as a classifier's last activation is float32."""
    first = next(layer for layer in model.layers if isinstance(layer, Normalize))
    is_classifier = not isinstance(model.output, dict)
    outputs = model.get_layer(model.output_names[0]).input if is_classifier else model.output
    return keras.Model(first.output, outputs)


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)
