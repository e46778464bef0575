"""The vocabulary on shared weights: a path through a supernet is a graph function run on real tensors.

Nothing is built or traced. A path is another one at every step, and tracing it would take longer than
running it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import keras
import tensorflow as tf

from effkeras.errors import EffkerasError
from effkeras.graph.vocabulary import Conv, Depthwise, Pool, Vocabulary, pair, symmetric
from effkeras.networks import ApplicationNetwork, BatchNormSpec, ExternalNetwork
from effkeras.search.evaluation.weight_bank import WeightBank

# Mean and variance of each batch normalisation.
Statistics = dict[str, tuple[tf.Tensor, tf.Tensor]]


@dataclass(slots=True)
class SharedNet(Vocabulary[tf.Tensor]):
    """Runs one path. `rename` gives the names that layers share their weights under.

    Batch normalisation uses `statistics`; without any those of the batch, which are then in `seen`.
    `training` drops what dropout drops.
    """

    bank: WeightBank
    rename: Callable[[str], str]
    training: bool = False
    statistics: Statistics | None = None
    seen: Statistics = field(default_factory=dict)

    def size(self, x: tf.Tensor) -> tuple[int, int]:
        """Height and width of a feature map."""
        return x.shape[1], x.shape[2]

    def channels(self, x: tf.Tensor) -> int:
        """Channels of a feature map."""
        return x.shape[-1]

    def conv(self, x: tf.Tensor, name: str, conv: Conv) -> tf.Tensor:
        """A dense convolution with the middle and the first filters of the shared one."""
        kernel = self._part(name, "kernel", (*pair(conv.kernel), x.shape[-1], conv.filters))
        x, padding = _padded(x, conv)
        y = tf.nn.conv2d(x, kernel, pair(conv.stride), padding, dilations=conv.dilation)
        return y + self._part(name, "bias", (conv.filters,)) if conv.bias else y

    def depthwise(self, x: tf.Tensor, name: str, depthwise: Depthwise) -> tf.Tensor:
        """A depthwise convolution with the middle of the shared windows."""
        kernel = self._part(name, "kernel", (depthwise.kernel, depthwise.kernel, x.shape[-1], 1))
        x, padding = _padded(x, depthwise)
        return tf.nn.depthwise_conv2d(x, kernel, (1, depthwise.stride, depthwise.stride, 1), padding)

    def batch_norm(self, x: tf.Tensor, name: str, spec: BatchNormSpec) -> tf.Tensor:
        """Shared scale and offset, and statistics that are the path's own."""
        width = (x.shape[-1],)
        gamma, beta = self._part(name, "gamma", width), self._part(name, "beta", width)
        if self.statistics is not None:
            mean, variance = self.statistics[name]
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, spec.epsilon)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=spec.epsilon)
        values = x.shape[0] * x.shape[1] * x.shape[2]
        self.seen[name] = mean, variance * ((values - 1) / values)  # it gives the unbiased one
        return y

    def activation(self, x: tf.Tensor, name: str, kind: str) -> tf.Tensor:
        """A pointwise non-linearity."""
        return keras.activations.get(kind)(x)

    def add(self, xs: Sequence[tf.Tensor], name: str) -> tf.Tensor:
        """The sum."""
        return tf.add_n(list(xs))

    def multiply(self, x: tf.Tensor, gate: tf.Tensor, name: str) -> tf.Tensor:
        """A map times one factor per channel."""
        return x * gate

    def mean(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """The mean over height and width."""
        return tf.reduce_mean(x, (1, 2), keepdims=True)

    def concat(self, xs: Sequence[tf.Tensor], name: str) -> tf.Tensor:
        """Maps side by side."""
        return tf.concat(list(xs), axis=-1)

    def take(self, x: tf.Tensor, name: str, start: int, stop: int) -> tf.Tensor:
        """Some channels."""
        return x[..., start:stop]

    def dropout(self, x: tf.Tensor, name: str, rate: float, whole_sample: bool) -> tf.Tensor:
        """Dropout of single values; whole samples stay, as the paths drop layers enough."""
        return tf.nn.dropout(x, rate) if self.training and rate and not whole_sample else x

    def drop_path(self, x: tf.Tensor, name: str, keep: float) -> tf.Tensor:
        """Nothing, see `dropout`."""
        return x

    def drop_block(self, x: tf.Tensor, name: str, keep: float, size: int) -> tf.Tensor:
        """Nothing, see `dropout`."""
        return x

    def flatten(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """(B, H, W, C) to (B, H * W * C)."""
        return tf.reshape(x, (x.shape[0], -1))

    def dense(self, x: tf.Tensor, name: str, units: int) -> tf.Tensor:
        """A fully connected layer with the first rows of the shared one."""
        return x @ self._part(name, "kernel", (x.shape[-1], units)) + self._part(name, "bias", (units,))

    def separable(self, name: str, conv: Conv) -> Callable[[tf.Tensor], tf.Tensor]:
        """No block has one."""
        _refuse(name)

    def fuse(self, xs: Sequence[tf.Tensor], name: str) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def pool(self, x: tf.Tensor, name: str, pool: Pool) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def shift(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def upsample(self, x: tf.Tensor, name: str, size: tuple[int, int]) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def transposed(self, x: tf.Tensor, name: str, conv: Conv) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def crop(self, x: tf.Tensor, name: str, size: tuple[int, int]) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def rows(self, xs: Sequence[tf.Tensor], name: str, width: int) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def layer_norm(self, x: tf.Tensor, name: str, epsilon: float) -> tf.Tensor:
        """No block has one."""
        _refuse(name)

    def application(
        self, x: tf.Tensor, network: ApplicationNetwork, widths: Mapping[str, int]
    ) -> list[tuple[tf.Tensor, int]]:
        """Not made of blocks."""
        _refuse(network.function)

    def external(self, x: tf.Tensor, network: ExternalNetwork) -> list[tf.Tensor]:
        """Not made of blocks."""
        _refuse("a model of one's own")

    def _part(self, layer: str, weight: str, shape: tuple[int, ...]) -> Any:
        return self.bank.part((self.rename(layer), weight), shape)


def _padded(x: tf.Tensor, window: Conv | Depthwise) -> tuple[tf.Tensor, str]:
    if window.padding != "symmetric" or window.stride == 1:
        return x, "VALID" if window.padding == "valid" else "SAME"
    return tf.pad(x, ((0, 0), *symmetric(window.kernel), (0, 0))), "VALID"


def _refuse(what: str) -> NoReturn:
    raise EffkerasError(f"a supernet is made of MBConv blocks, and {what} is none")
