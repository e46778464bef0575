"""Masks, schedules and a training by tensorflow-model-optimization; run as a program of its own.

Importing it changes the Keras of the whole process. Writes an .npz file.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # not where only its figures are wanted
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

# (start, final, begin, end, every, power); constant where start is final.
SCHEDULES = [
    (0.0, 0.5, 0, 100, 10, 3.0),
    (0.0, 0.8, 7, 61, 9, 3.0),
    (0.2, 0.9, 3, 50, 1, 2.0),
    (0.1, 0.7, 5, 5 + 33, 11, 1.5),
    (0.5, 0.5, 4, 44, 5, 3.0),
]
STEPS = 110
# What `prune_low_magnitude` is told for each way of pruning.
WAYS = {
    "sparse25": (0.25, {}),
    "sparse50": (0.5, {}),
    "sparse83": (0.83, {}),
    "2:4": (0.5, {"sparsity_m_by_n": (2, 4)}),
    "1:4": (0.5, {"sparsity_m_by_n": (3, 4)}),
    "5:8": (0.5, {"sparsity_m_by_n": (3, 8)}),
    "1x4": (0.5, {"block_size": (1, 4), "block_pooling_type": "AVG"}),
    "4x1": (0.7, {"block_size": (4, 1), "block_pooling_type": "MAX"}),
    "3x2": (0.6, {"block_size": (3, 2), "block_pooling_type": "AVG"}),
}
# A training of one dense layer: schedule as above, rate of plain gradient descent.
TRAINING = (0.0, 0.75, 1, 13, 3, 3.0)
RATE = 0.05
SHAPES = {
    "dense.even": (24, 16),
    "dense.odd": (13, 10),
    "dense.ties": (16, 12),
    "conv.3x3": (3, 3, 16, 8),
    "conv.rgb": (3, 3, 3, 8),
    "conv.1x1": (1, 1, 30, 10),
    "separable": (1, 1, 10, 6),
    "transposed": (2, 2, 8, 12),
}


def given() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    kernels = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    kernels["dense.ties"] = np.round(kernels["dense.ties"] * 2) / 2
    shapes = {"training.kernel": (12, 8), "training.x": (32, 12), "training.y": (32, 8)}
    return kernels | {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def layer_for(keras, kind: str, shape):
    """An unwrapped layer whose kernel has this shape, and its input's shape."""
    if kind == "dense":
        return keras.layers.Dense(shape[1], use_bias=False), (shape[0],)
    if kind == "transposed":
        return keras.layers.Conv2DTranspose(shape[2], shape[:2], use_bias=False), (8, 8, shape[3])
    if kind == "separable":
        return keras.layers.SeparableConv2D(shape[3], 3, use_bias=False), (8, 8, shape[2])
    return keras.layers.Conv2D(shape[3], shape[:2], use_bias=False), (8, 8, shape[2])


def mask_of(tfmot, keras, kind: str, kernel: np.ndarray, way: str) -> np.ndarray:
    sparsity, options = WAYS[way]
    layer, shape = layer_for(keras, kind, kernel.shape)
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, 1, frequency=1)
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=schedule, **options)
    wrapped.build((None, *shape))
    wrapped.prunable_weights[0].assign(kernel)
    wrapped.pruning_step.assign(1)
    wrapped.pruning_obj.conditional_mask_update()
    return wrapped.pruning_vars[0][1].numpy()


def schedules(tfmot) -> np.ndarray:
    """(schedules, steps, 2): whether it is a turn, and the sparsity."""
    found = []
    for start, final, begin, end, every, power in SCHEDULES:
        if start == final:
            one = tfmot.sparsity.keras.ConstantSparsity(final, begin, end, every)
        else:
            one = tfmot.sparsity.keras.PolynomialDecay(start, final, begin, end, power, every)
        found.append([[float(value) for value in one(step)] for step in range(STEPS)])
    return np.array(found)


def trained(tfmot, keras, given) -> np.ndarray:
    """The kernel after every step of a training, (steps, inputs, units)."""
    start, final, begin, end, every, power = TRAINING
    schedule = tfmot.sparsity.keras.PolynomialDecay(start, final, begin, end, power, every)
    kernel = given["training.kernel"]
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False)
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=schedule)
    model = keras.Sequential([keras.Input(kernel.shape[:1]), wrapped])
    wrapped.prunable_weights[0].assign(kernel)
    model.compile(keras.optimizers.SGD(RATE, momentum=0.9), loss="mse")
    update, masks = tfmot.sparsity.keras.UpdatePruningStep(), []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: masks.append(wrapped.pruning_vars[0][1].numpy())
    )
    model.fit(
        given["training.x"],
        given["training.y"],
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[update, note],
    )
    return np.array([*masks, wrapped.prunable_weights[0].numpy()])


def main(target: str) -> None:
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    found = {"schedules": schedules(tfmot), "training": trained(tfmot, keras, given())}
    for name, kernel in given().items():
        kind = name.split(".")[0]
        if kind == "training":
            continue
        for way in WAYS:
            if "x" in way and kind != "dense":
                continue  # blocks of dense layers only
            found[f"{name}.{way}"] = mask_of(tfmot, keras, kind, kernel, way)
    np.savez_compressed(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
