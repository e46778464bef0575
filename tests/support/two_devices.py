"""What a step on two devices sums is what one device computes: run as a program, it prints "equal".

TensorFlow takes the number of devices only before it is used, so this needs a process of its own.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from effkeras.detection.losses import FocalLoss, GiouLoss, mask_loss
from effkeras.layers.batch_norm import synchronize, use_fused_kernels
from effkeras.training.optimizers import OptimizerOptions, optimizer_for
from effkeras.training.strategies import open_strategy, request_of

BATCH, SIDE, CLASSES = 4, 8, 3
rng = np.random.default_rng(0)
PIXELS = rng.normal(3.0, 2.0, (BATCH, SIDE, SIDE, 2)).astype(np.float32)
# The replicas have different numbers of positives and of known pixels.
LABELS = np.array([[0, -1, -2, 1], [-1, -1, 2, 2], [-1, -1, -1, -1], [-2, -1, -1, 0]], np.int32)
BOXES = np.concatenate([rng.normal(0, 0.1, (BATCH, 4, 4)), LABELS[..., None] >= 0], -1).astype(np.float32)
MASKS = np.where(rng.random((BATCH, SIDE - 2, SIDE - 2)) < [[[0.9]], [[0.8]], [[0.2]], [[0.1]]], 255, 1)
CLASS = np.array([0, 1, 2, 0], np.int32)


def model() -> keras.Model:
    """A network with batch normalisation and four kinds of outputs, its weights always the same."""
    keras.utils.set_random_seed(1)
    x = keras.Input((SIDE, SIDE, 2))
    y = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Conv2D(4, 3, use_bias=False)(x))
    flat = keras.layers.Flatten()(keras.layers.Activation("relu")(y))
    outputs = {
        "logits": keras.layers.Reshape((4, CLASSES))(keras.layers.Dense(4 * CLASSES)(flat)),
        "boxes": keras.layers.Reshape((4, 4))(keras.layers.Dense(16, kernel_initializer="zeros")(flat)),
        "masks": keras.layers.Conv2D(2, 1)(y),
        "classes": keras.layers.Dense(CLASSES, activation="softmax")(flat),
    }
    made = keras.Model(x, outputs)
    use_fused_kernels(made)
    synchronize(made)
    return made


LOSSES = {
    "logits": FocalLoss(),
    "boxes": GiouLoss(),
    "masks": mask_loss(),
    "classes": keras.losses.SparseCategoricalCrossentropy(),
}
TARGETS = {"logits": LABELS, "boxes": BOXES, "masks": MASKS, "classes": CLASS}


def trained(name: str, strategy: Any, pieces: int) -> tuple[list[float], list[np.ndarray]]:
    """The losses of three steps, two of which make an update, and the weights after them."""
    with strategy.scope():
        made = model()
        optimizer = optimizer_for(name, 0.01, OptimizerOptions(1e-3, global_clipnorm=0.5, accumulate=2))
        optimizer.build(made.trainable_variables)

    def step_of_replica(pixels: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = made(pixels, training=True)
            loss = tf.add_n([LOSSES[key](targets[key], outputs[key]) for key in LOSSES])
        optimizer.apply(tape.gradient(loss, made.trainable_variables), made.trainable_variables)
        return loss

    @tf.function(autograph=False)
    def step(pixels: Any, targets: Any) -> Any:
        losses = strategy.run(step_of_replica, args=(pixels, targets))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def split(values: np.ndarray) -> Any:
        rows = np.split(values, pieces)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(rows[context.replica_id_in_sync_group])
        )

    given = split(PIXELS), {key: split(values) for key, values in TARGETS.items()}
    losses = [float(step(*given)) for _ in range(4)]
    return losses, made.get_weights()


def main() -> None:
    """Compares one device with two, for our optimizer and for Keras's."""
    two = open_strategy(request_of("cpu:0,1")).distribution  # type: ignore[attr-defined]
    one = tf.distribute.get_strategy()
    for name in ("adamw", "rmsprop"):
        expected, found = trained(name, one, 1), trained(name, two, 2)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        for ours, theirs in zip(found[1], expected[1], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert expected[0][-1] < expected[0][0]
    print("equal")


if __name__ == "__main__":
    main()
