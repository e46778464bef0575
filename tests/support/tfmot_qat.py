"""Quantizers and a whole quantized model of tensorflow-model-optimization; run as a program of its own.

Importing it changes the Keras of the whole process. Writes an .npz file.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # not where only its figures are wanted
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

BATCHES = 5
# Layers of the whole model, in order: those with a kernel, and what is rounded.
KERNELS = ("expand", "depthwise", "project", "logits")
SHAPES = {"expand": (3, 3, 3, 8), "depthwise": (3, 3, 8, 1), "project": (1, 1, 8, 8), "logits": (8, 4)}


def given() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    arrays = {
        "kernel": random.normal(size=(3, 3, 4, 6)),
        "batches": random.normal(size=(BATCHES, 16, 3)),
        "images": random.uniform(-1, 1, (BATCHES, 4, 8, 8, 3)),
    }
    for name, shape in SHAPES.items():
        kernel = random.normal(size=shape)
        channels = -2 if name == "depthwise" else -1
        others = tuple(axis for axis in range(kernel.ndim) if axis != kernel.ndim + channels)
        # The reference rounds these two per tensor: with equal ends of all channels that is per channel.
        arrays[f"{name}.kernel"] = kernel / np.abs(kernel).max(axis=others, keepdims=True)
        arrays[f"{name}.bias"] = random.normal(size=8 if name == "depthwise" else shape[-1])
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def quantizers(tfmot):
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers as found

    activation = {"num_bits": 8, "per_axis": False, "symmetric": False, "narrow_range": False}
    return {
        "ema": found.MovingAverageQuantizer(**activation),
        "all": found.AllValuesQuantizer(**activation),
        "last": found.LastValueQuantizer(**activation),
    }


def observed(keras, quantizer, batches) -> dict[str, np.ndarray]:
    """What a quantizer puts out for each batch in training, its range then, and its output at inference."""
    layer = keras.layers.Layer()
    weights = quantizer.build((None, 3), "x", layer)
    found = {}
    for number, batch in enumerate(map(tf.constant, batches)):
        found[f"{number}.training"] = quantizer(batch, True, weights).numpy()
        found[f"{number}.range"] = np.array([weights["min_var"].numpy(), weights["max_var"].numpy()])
        found[f"{number}.inference"] = quantizer(batch, False, weights).numpy()
    return found


def rounded_kernel(tfmot, keras, kernel) -> np.ndarray:
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers as found

    quantizer = found.LastValueQuantizer(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)
    weights = quantizer.build(kernel.shape, "kernel", keras.layers.Layer())
    return quantizer(tf.constant(kernel), True, weights).numpy()


def network(keras):
    """An inverted bottleneck and a classifier; biases instead of batch normalisation.

    The activations belong to the convolutions: the reference leaves a kernel in float whose convolution has a
    layer ReLU behind it.
    """
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="expand")(image)
    y = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    y = keras.layers.Conv2D(8, 1, name="project")(y)
    y = keras.layers.Add(name="add")([x, y])
    y = keras.layers.GlobalAveragePooling2D(name="mean")(y)
    return keras.Model(image, keras.layers.Dense(4, name="logits")(y), name="bottleneck")


def quantized_model(tfmot, keras, given) -> dict[str, np.ndarray]:
    """The outputs of `quantize_model` after some training-mode passes, at inference, and all its ranges."""
    model = network(keras)
    for name in KERNELS:
        model.get_layer(name).set_weights([given[f"{name}.kernel"], given[f"{name}.bias"]])
    made = tfmot.quantization.keras.quantize_model(model)
    for batch in given["images"]:
        made(batch, training=True)
    found = {w.name: w.numpy() for w in made.weights if "min" in w.name or "max" in w.name}
    return {"outputs": made(given["images"][0], training=False).numpy(), **found}


def main(target: str) -> None:
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    found = {"kernel": rounded_kernel(tfmot, keras, given()["kernel"])}
    for name, quantizer in quantizers(tfmot).items():
        one = observed(keras, quantizer, given()["batches"])
        found |= {f"{name}.{key}": value for key, value in one.items()}
    made = quantized_model(tfmot, keras, given())
    np.savez_compressed(
        target, **found, **{f"model.{key.replace('/', '|')}": value for key, value in made.items()}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
