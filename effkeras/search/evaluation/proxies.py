"""Zero-cost proxies: figures of an untrained network that are hoped to order candidates as training does.

They are always given beside parameters and MACs, which often order candidates as well (White et al. 2022,
"A deeper look at zero-cost proxies for lightweight NAS").
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from effkeras.blocks import decode, encode
from effkeras.data.pipeline import BatchSpec, targets_of
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.graph.counting import cost
from effkeras.layers import Normalize
from effkeras.models import build_spec
from effkeras.networks import BlockNetwork, CellNetwork, DropBlockSpec
from effkeras.search.evaluation.pictures import Samples
from effkeras.training.compiling import compile_for
from effkeras.training.settings import TrainSettings

# Activations with a knee at 0, as Keras names their functions.
_KNEED = ("relu", "relu6", "silu", "hard_silu")


@dataclass(frozen=True, eq=False, slots=True)
class Probe:
    """One batch: float pixels (B, H, W, 3), and the targets of a training."""

    pixels: tf.Tensor
    targets: Any


def probe_of(spec: ModelSpec, samples: Samples, pictures: int) -> Probe:
    """A batch of so many training pictures, from all over the data; the same for all candidates."""
    total = len(samples[0])
    chosen = np.random.default_rng(0).permutation(total)[: min(pictures, total)]
    make = targets_of(spec, BatchSpec(len(chosen), 0, None))
    batch = [tf.gather(values, chosen) for values in samples]
    return Probe(*make(*batch, tf.zeros((len(chosen), 2), tf.int32)))


def proxies_of(spec: ModelSpec, probe: Probe, seed: int = 0) -> dict[str, float]:
    """All proxies of one network with random weights, and the two plain figures that they must beat.

    Returns:
        "synflow", "naswot", "grad_norm", "parameters" and "macs"; more is thought to be better of each.

    Raises:
        EffkerasError: a definition that cannot be built, or a figure that is no number.
    """
    still = _undisturbed(spec)
    keras.utils.set_random_seed(seed)
    linear = build_spec(_unbounded(still), activation=None, dtype="float64")
    keras.utils.set_random_seed(seed)
    model = build_spec(still)
    compile_for(model, still, TrainSettings(), 1)
    parameters, macs = cost(spec)
    found = {
        "synflow": synflow(linear),
        "naswot": naswot(model, probe.pixels),
        "grad_norm": grad_norm(model, probe),
        "parameters": float(parameters),
        "macs": float(macs),
    }
    for name, value in found.items():
        if not math.isfinite(value):
            raise EffkerasError(f"{name} of this network on {len(probe.pixels)} pictures is {value}")
    return found


def synflow(model: keras.Model) -> float:
    """What flows through a network whose weights are all made positive: the sum of |weight * gradient|.

    Tanaka et al. 2020 (arXiv:2006.05467), as a proxy Abdelfattah et al. 2021 (arXiv:2101.08134): R is the sum
    of the logits for an input of ones, and the score is summed over the kernels. No data are needed. Batch
    normalisation is left as it starts, which is the identity. A bounded activation would stop the flow, so
    `proxies_of` puts ReLU, which lets all that is positive pass, in the place of any other.

    Args:
        model: with random weights, which this changes; logits of float64 do not overflow in deep networks.
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


def naswot(model: keras.Model, pixels: tf.Tensor) -> float:
    """How differently a network's units switch for different pictures: the log determinant of a kernel.

    Mellor et al. 2021 (arXiv:2006.04647): each picture has a binary code, which units are above 0, and the
    kernel counts in how many units two codes agree. For activations other than ReLU the code is the sign of
    what enters them. Statistics are those of the batch, as in the authors' code.

    Returns minus infinity when two pictures have the same code.
    """
    signs = [_array(values) > 0 for values in _entering(model, pixels)]
    codes = np.concatenate([one.reshape(len(one), -1) for one in signs], axis=1).astype(np.float64)
    kernel = codes @ codes.T + (1 - codes) @ (1 - codes).T
    return float(np.linalg.slogdet(kernel)[1])


def grad_norm(model: keras.Model, probe: Probe) -> float:
    """The sum over all kernels of the norm of the loss's gradient (Abdelfattah et al. 2021).

    `model` is compiled, with random weights; statistics are those of the batch.
    """
    kernels = _kernels(model)
    with tf.GradientTape() as tape:
        outputs = model(probe.pixels, training=True)
        loss = model.compute_loss(x=probe.pixels, y=probe.targets, y_pred=outputs, training=True)
    return float(sum(np.linalg.norm(_array(one)) for one in tape.gradient(loss, kernels)))


def as_accuracy(name: str, value: float) -> float:
    """A proxy in the place of an accuracy: 0..1, in the same order.

    What spreads over orders of magnitude enters by its logarithm. The result is good for comparing only.
    """
    size = max(value, 0.0) if name == "naswot" else math.log10(1 + value)
    return size / (1 + size)


def _undisturbed(spec: ModelSpec) -> ModelSpec:
    """The definition without dropout of any kind: proxies look at the network, not at the noise."""
    still: dict[str, Any] = {"dropout": 0.0, "survival": 1.0, "drop_block": DropBlockSpec()}
    changes = {name: value for name, value in still.items() if hasattr(spec.network, name)}
    return spec.replace(network=dataclasses.replace(spec.network, **changes))


def _unbounded(spec: ModelSpec) -> ModelSpec:
    """The definition with ReLU for all activations."""
    network = spec.network
    if isinstance(network, BlockNetwork):
        blocks = [encode(dataclasses.replace(decode(text), activation="")) for text in network.blocks]
        network = dataclasses.replace(network, blocks=tuple(blocks), activation="relu")
    elif isinstance(network, CellNetwork):
        network = dataclasses.replace(network, activation="relu")
    fpn = dataclasses.replace(spec.fpn, activation="relu") if spec.fpn else None
    return spec.replace(network=network, fpn=fpn)


def _kernels(model: keras.Model) -> list[Any]:
    return [weight for weight in model.trainable_weights if weight.name.endswith("kernel")]


def _body(model: keras.Model) -> keras.Model:
    """From the normalised picture to the logits: a classifier's last activation is float32 in any case."""
    first = next(layer for layer in model.layers if isinstance(layer, Normalize))
    is_classifier = not isinstance(model.output, dict)
    outputs = model.get_layer(model.output_names[0]).input if is_classifier else model.output
    return keras.Model(first.output, outputs)


def _entering(model: keras.Model, pixels: tf.Tensor) -> list[Any]:
    """What enters each activation, also of layers that are called several times."""
    layers = [layer for layer in model.layers if _function_of(layer) in _KNEED]
    tensors = [node.input_tensors[0] for layer in layers for node in layer._inbound_nodes]
    if not tensors:
        raise EffkerasError(
            f"{model.name} has no activation with a knee at 0, and NASWOT looks at nothing else"
        )
    return tf.nest.flatten(keras.Model(model.input, tensors)(pixels, training=True))


def _function_of(layer: keras.layers.Layer) -> str:
    if isinstance(layer, keras.layers.ReLU):
        return "relu"
    return layer.activation.__name__ if isinstance(layer, keras.layers.Activation) else ""


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)
