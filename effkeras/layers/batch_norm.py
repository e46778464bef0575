"""Batch normalisation with TensorFlow's fused kernel in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from effkeras.support.backend import replicas, sum_over_replicas


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` whose training step is one kernel.

    Keras computes the moments and normalises in separate operations; TensorFlow's kernel does both. A whole
    training step takes 0.68 to 0.74 of the CPU time (`make bench-training`). Outputs, gradients and moving
    statistics are those of Keras. In particular the moving variance averages the variance of a batch divided
    by n, as Keras and the authors' TPU code do; the kernel itself divides by n - 1.

    With `synchronized`, the statistics are those of the batch over all replicas. They take one sum over the
    replicas; Keras's code takes three.

    All this serves images with channels last under the TensorFlow backend; Keras's code computes everything
    else: inference and masks. Models are saved as if the layer was Keras's own, so that Keras alone opens
    them.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises (B, H, W, C) by the statistics of the batch in training, else by the moving ones."""
        if training and self.trainable and mask is None:
            if self._is_fused(inputs):
                return self._normalized(inputs)
            if self.synchronized and replicas() > 1 and self._are_images(inputs):
                return self._synchronized(inputs)
        return super().call(inputs, training=training, mask=mask)

    def _is_fused(self, inputs: Any) -> bool:
        return not self.synchronized and self._are_images(inputs)

    def _are_images(self, inputs: Any) -> bool:
        is_last = self.axis in (-1, 3) and len(inputs.shape) == 4
        kinds = ("float32", "float16", "bfloat16")
        is_known = keras.backend.standardize_dtype(inputs.dtype) in kinds
        is_plain = not getattr(self, "renorm", False)
        return keras.backend.backend() == "tensorflow" and is_last and is_known and is_plain

    def _normalized(self, inputs: Any) -> Any:
        import tensorflow as tf

        channels = (inputs.shape[-1],)
        none = tf.zeros((0,))  # in training the kernel takes no statistics
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value if self.scale else tf.ones(channels),
            offset=self.beta.value if self.center else tf.zeros(channels),
            mean=none,
            variance=none,
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            is_training=True,
        )
        rate = _rate(self.momentum)
        _move(self.moving_mean, outputs.batch_mean, rate)
        _move(self.moving_variance, outputs.batch_variance * _biased(inputs), rate)
        return outputs.y

    def _synchronized(self, inputs: Any) -> Any:
        import tensorflow as tf

        # About the moving mean, the mean is small, and its square takes no digits from that of the squares.
        origin = tf.convert_to_tensor(self.moving_mean.value)
        values = tf.cast(inputs, tf.float32) - origin
        local = tf.stack([tf.reduce_sum(values, (0, 1, 2)), tf.reduce_sum(tf.square(values), (0, 1, 2))])
        count = tf.cast(replicas() * tf.size(inputs) // inputs.shape[-1], tf.float32)
        mean, squares = tf.unstack(sum_over_replicas(local) / count)
        variance = tf.maximum(squares - tf.square(mean), 0.0)
        rate = _rate(self.momentum)
        _move(self.moving_mean, origin + mean, rate)
        _move(self.moving_variance, variance, rate)
        factor = tf.math.rsqrt(variance + self.epsilon)
        if self.scale:
            factor *= self.gamma.value
        offset = self.beta.value if self.center else 0.0
        return tf.cast((values - mean) * factor + offset, inputs.dtype)


def _biased(inputs: Any) -> Any:
    """The factor that turns a variance of (B, H, W, C) divided by n - 1 into one divided by n."""
    import tensorflow as tf

    known = inputs.shape[:-1].num_elements()
    if known is not None:  # as in training: a number takes no operators, of which there would be six a layer
        return max(known - 1.0, 1.0) / known
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
    return tf.maximum(count - 1.0, 1.0) / count


def _rate(momentum: Any) -> Any:
    """1 - momentum. In a graph, layers whose momentum is the same variable share the operators."""
    import tensorflow as tf

    if tf.executing_eagerly() or not isinstance(momentum, tf.Variable):
        return 1.0 - momentum
    known = tf.compat.v1.get_default_graph().get_collection_ref(f"rate of {id(momentum)}")
    if not known:
        known.append(1.0 - momentum)
    return known[0]


def _move(average: Any, value: Any, rate: Any) -> None:
    import tensorflow as tf

    before = tf.convert_to_tensor(average.value)
    average.assign(before - (before - value) * rate)


# Keras writes the class's module and name into files: with these it opens them with its own layer.
BatchNormalization.__module__, BatchNormalization.__qualname__ = "keras.layers", "BatchNormalization"


def norms_of(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """The batch normalisation layers of a model and its nested models."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from norms_of(layer)


def use_fused_kernels(model: keras.Model) -> None:
    """Lets Keras's own batch normalisations of a model train with the fused kernel, in place."""
    for layer in norms_of(model):
        if type(layer) is keras.layers.BatchNormalization:
            layer.__class__ = BatchNormalization


def synchronize(model: keras.Model) -> None:
    """Lets the batch normalisations of a model train with the statistics of all replicas, in place."""
    for layer in norms_of(model):
        layer.synchronized = True
