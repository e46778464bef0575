"""Convolutions and dense layers whose kernels are fake-quantized, with folded batch normalisation.

The trained kernel is the one before folding. It is first rounded per output channel and then scaled by the
normalisation: in int8 both orders give the same codes, because a channel's scale also scales its range. So
a convolution that is called on several maps, each with its own normalisation, keeps one kernel, and its
maps stay consistent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from effkeras.layers.fake_quant import ranges_of, rounded_rows

_SMALLEST = 1e-8


class FakeQuantKernel:
    """A mixin for layers with a fake-quantized kernel; list it before the Keras layer class.

    `call(x, branch)` computes `activation(x * round(kernel) * scale[branch] + bias[branch])`. `scale` and
    `bias` are (branches, channels); the scale does not train.

    Args:
        *args: arguments of the Keras layer.
        branches: a name for each pair of scale and bias.
        biased: whether the layer has a bias.
        quantized: False keeps the kernel in float.
        masked: True keeps zeros of the kernel at zero.
        clusters: the number of distinct kernel values, which stay shared in training; 0 for no clusters.
        **kwargs: arguments of the Keras layer.
    """

    plain: type[keras.Layer]

    def __init__(
        self,
        *args: Any,
        branches: Sequence[str] = ("",),
        biased: bool = True,
        quantized: bool = True,
        masked: bool = False,
        clusters: int = 0,
        **kwargs: Any,
    ):
        super().__init__(*args, **{**kwargs, "use_bias": False})
        self.branches = list(branches)
        self.biased = biased
        self.quantized = quantized
        self.masked = masked
        self.clusters = clusters
        self.observing = False

    def build(self, input_shape: Any) -> None:
        """Creates the kernel, a scale and a bias per branch, and variables for zeros and clusters."""
        super().build(input_shape)  # type: ignore[misc]
        shape = (len(self.branches), self._channels())
        self.scale = self._fixed("scale", shape, "ones")
        if self.biased:
            self.biases = self.add_weight(name="bias", shape=shape, initializer="zeros")  # type: ignore[attr-defined]
        if self.masked:
            self.mask = self._fixed("mask", self.kernel.shape, "ones")  # type: ignore[attr-defined]
        if self.clusters:
            # float, so that code for weights also handles these indices
            self.assignment = self._fixed("assignment", self.kernel.shape, "zeros")  # type: ignore[attr-defined]

    def call(self, x: Any, branch: int = 0) -> Any:
        """The Keras layer's computation with the rounded kernel."""
        y = self._apply(x, self.folded_kernel(branch))
        if self.biased:
            y = y + self.biases[branch]
        return y if self.activation is None else self.activation(y)  # type: ignore[attr-defined]

    def folded_kernel(self, branch: int = 0) -> Any:
        """The kernel of a branch: int8's values as real numbers."""
        return self._from_rows(self._rounded() * self.scale[branch])

    def rounded_kernel(self) -> Any:
        """The rounded kernel before scaling."""
        return self._from_rows(self._rounded())

    def kept_kernel(self) -> Any:
        """The kernel before rounding, with its zeros and clusters preserved."""
        kernel = ops.convert_to_tensor(self.kernel)  # type: ignore[attr-defined]
        if self.clusters:
            kernel = self._clustered(kernel)
        return kernel * self.mask if self.masked else kernel

    def largest(self, branch: int = 0) -> Any:
        """The upper end of each channel's range in a branch's folded kernel, (channels,)."""
        return self._largest(self._rows(self.kept_kernel())) * ops.abs(self.scale[branch])

    def get_config(self) -> dict[str, Any]:
        """The Keras layer's arguments and those of `FakeQuantKernel`."""
        config = super().get_config()  # type: ignore[misc]
        return {**config, **{name: getattr(self, name) for name in OWN}}

    # Keras's convolution and dense layers save kernel and bias by position; these have more variables.
    save_own_variables = keras.layers.Layer.save_own_variables
    load_own_variables = keras.layers.Layer.load_own_variables

    def _rounded(self) -> Any:
        rows = self._rows(self.kept_kernel())
        if not self.quantized or self.observing:
            return rows
        return rounded_rows(rows, self._largest(rows))

    def _largest(self, rows: Any) -> Any:
        # Clusters stay intact only if all channels share one range before the scale.
        axis = None if self.clusters else 0
        found = tf.stop_gradient(tf.reduce_max(tf.abs(rows), axis=axis))
        return tf.broadcast_to(tf.maximum(found, _SMALLEST), (self._channels(),))

    def _clustered(self, kernel: Any) -> Any:
        """Each weight as its cluster's mean, which equals it, so that a cluster gets equal gradients."""
        index = tf.cast(tf.reshape(self.assignment.value, (-1,)), tf.int32)
        centroids = tf.math.unsorted_segment_mean(tf.reshape(kernel, (-1,)), index, self.clusters)
        return tf.reshape(tf.gather(centroids, index), kernel.shape)

    def _fixed(self, name: str, shape: Sequence[int], initializer: str) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=initializer, trainable=False)  # type: ignore[attr-defined]

    def _channels(self) -> int:
        return int(self.kernel.shape[-1])  # type: ignore[attr-defined]

    def _rows(self, kernel: Any) -> Any:
        """The kernel as (n, channels)."""
        return tf.reshape(kernel, (-1, self._channels()))

    def _from_rows(self, rows: Any) -> Any:
        return tf.reshape(rows, self.kernel.shape)  # type: ignore[attr-defined]

    def _apply(self, x: Any, kernel: Any) -> Any:
        raise NotImplementedError


OWN = ("branches", "biased", "quantized", "masked", "clusters")


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantConv2D(FakeQuantKernel, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a fake-quantized kernel; see `FakeQuantKernel`."""

    plain = keras.layers.Conv2D

    def _apply(self, x: Any, kernel: Any) -> Any:
        return self.convolution_op(x, kernel)


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantDepthwiseConv2D(FakeQuantKernel, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a fake-quantized kernel; see `FakeQuantKernel`."""

    plain = keras.layers.DepthwiseConv2D

    def _channels(self) -> int:
        return int(np.prod(self.kernel.shape[2:]))

    def _apply(self, x: Any, kernel: Any) -> Any:
        return ops.depthwise_conv(
            x, kernel, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate
        )


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantConv2DTranspose(FakeQuantKernel, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a fake-quantized kernel; see `FakeQuantKernel`."""

    plain = keras.layers.Conv2DTranspose

    def _channels(self) -> int:
        return int(self.filters)

    def _rows(self, kernel: Any) -> Any:
        return tf.reshape(tf.transpose(kernel, (0, 1, 3, 2)), (-1, self._channels()))

    def _from_rows(self, rows: Any) -> Any:
        height, width, channels, inputs = self.kernel.shape
        return tf.transpose(tf.reshape(rows, (height, width, inputs, channels)), (0, 1, 3, 2))

    def _apply(self, x: Any, kernel: Any) -> Any:
        return ops.conv_transpose(
            x,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
        )


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantDense(FakeQuantKernel, keras.layers.Dense):
    """`keras.layers.Dense` with a fake-quantized kernel; see `FakeQuantKernel`."""

    plain = keras.layers.Dense

    def _apply(self, x: Any, kernel: Any) -> Any:
        return ops.matmul(x, kernel)


def network_weights(model: keras.Model) -> list[Any]:
    """The weights of the network itself, without the ranges, scales, masks and assignments of its training.

    The scales are part of the kernels in int8. Of a model without fake quantization these are all weights.
    """
    helpers = {id(one) for one in _helpers(model)}
    return [weight for weight in model.weights if id(weight) not in helpers]


def _helpers(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _helpers(layer)
        if isinstance(layer, FakeQuantKernel):
            own = (getattr(layer, name, None) for name in ("scale", "mask", "assignment"))
            yield from (one for one in own if one is not None)
        for one in ranges_of(layer):
            yield from one.weights
