"""Batch normalisation with TensorFlow's fused kernel in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from effkeras.support.replicas import replicas, sum_over_replicas


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
        ones, zeros = tf.ones(channels), tf.zeros(channels)
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value if self.scale else ones,
            offset=self.beta.value if self.center else zeros,
            mean=zeros,
            variance=ones,
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // channels[0], tf.float32)
        variance = outputs.batch_variance * (tf.maximum(count - 1.0, 1.0) / count)
        self._move(self.moving_mean, outputs.batch_mean)
        self._move(self.moving_variance, variance)
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
        self._move(self.moving_mean, origin + mean)
        self._move(self.moving_variance, variance)
        factor = tf.math.rsqrt(variance + self.epsilon)
        if self.scale:
            factor *= self.gamma.value
        offset = self.beta.value if self.center else 0.0
        return tf.cast((values - mean) * factor + offset, inputs.dtype)

    def _move(self, average: Any, value: Any) -> None:
        average.assign(average.value * self.momentum + value * (1.0 - self.momentum))


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
