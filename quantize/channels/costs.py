"""The cost of a model's calls as a function of the units that each group keeps.

Multiply-adds are exact, by the convention of `effkeras.graph.counting`. Time is an estimate, in units of one
multiply-add of a 1x1 convolution: other operators take longer per multiply-add, and feature maps must be
read and written. The estimate only ranks the groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.channel_flow import CallFlow, Numbers
from effkeras.layers import DropBlock, DropPath
from effkeras.support.errors import EffkerasError
from quantize.channels.groups import Channels


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a multiply-add of each kind, of a value written, and of a value through a curve as swish.

    Fitted to latencies of EfficientDet-D0 and Lite0 at many widths on one x86 core with VNNI, a depthwise
    multiply-add takes 1 (float) or 4 (int8) times as long as a dense one, a written value 7 or 32 times, a
    curve 23 or 75 times. The defaults are twice the int8 prices: where the target is a number of
    multiply-adds, this weight on the other costs gives the best result.
    """

    dense: float = 1.0
    depthwise: float = 8.0
    value: float = 64.0
    curve: float = 150.0


MACS = Prices(depthwise=1.0, value=0.0, curve=0.0)
TIME = Prices()

# Activations that a runtime applies while it writes a convolution's output.
_FUSED = ("linear", "relu", "relu6")
_FREE = (
    keras.layers.InputLayer,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.ReLU,
    DropBlock,
    DropPath,
)


@dataclass(frozen=True, eq=False, slots=True)
class Costs:
    """The sum of `price * width * width` and `price * width` terms; a width is `row @ kept`.

    `left` and `right` (T, G) are the rows of each product's widths, `prices` (T,) its price; `single` (G,) is
    the cost of each kept unit by itself. Locked groups count too.
    """

    left: np.ndarray
    right: np.ndarray
    prices: np.ndarray
    single: np.ndarray

    def total(self, kept: np.ndarray) -> float:
        """The cost when each group keeps `kept` units, (G,)."""
        return float(self.prices @ ((self.left @ kept) * (self.right @ kept)) + self.single @ kept)

    def slopes(self, kept: np.ndarray) -> np.ndarray:
        """The cost of one more unit of each group, (G,)."""
        left, right = self.left @ kept, self.right @ kept
        return self.left.T @ (self.prices * right) + self.right.T @ (self.prices * left) + self.single


def costs_of(channels: Channels, prices: Prices) -> Costs:
    """The costs of all calls of the model that `channels` describes.

    Raises EffkerasError when the size of a feature map is not fixed.
    """
    table = _Table(channels, prices)
    for flow in channels.flow.calls:
        table.add(flow)
    return table.costs()


class _Table:
    """Collects the cost terms of the calls."""

    def __init__(self, channels: Channels, prices: Prices):
        self._prices = prices
        self._group = channels.group_of_numbers
        self._sizes = channels.sizes
        self._terms: list[tuple[np.ndarray, np.ndarray, float]] = []
        self._single = np.zeros(len(channels.groups))

    def add(self, flow: CallFlow) -> None:
        layer, positions = flow.call.operation, _positions(flow.call.outputs[0])
        if isinstance(layer, keras.layers.Conv2DTranspose):
            self._dense(flow, _positions(flow.call.inputs[0]) * _taps(layer.kernel))
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            self._dense(flow, positions * _taps(layer.kernel) / getattr(layer, "groups", 1))
        elif isinstance(layer, keras.layers.SeparableConv2D):
            self._dense(flow, positions * layer.depth_multiplier)
            self._depthwise(flow, layer.depthwise_kernel, positions)
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            self._depthwise(flow, layer.kernel, positions)
        self._single += self._row(flow.output) * positions * _per_value(flow, self._prices)

    def costs(self) -> Costs:
        shape = (len(self._terms), len(self._single))
        left, right = (np.reshape([term[side] for term in self._terms], shape) for side in (0, 1))
        return Costs(left, right, np.array([term[2] for term in self._terms]), self._single)

    def _dense(self, flow: CallFlow, amount: float) -> None:
        rows = self._row(flow.inputs[0]), self._row(flow.output)
        self._terms.append((*rows, amount * self._prices.dense))

    def _depthwise(self, flow: CallFlow, kernel: Any, positions: int) -> None:
        """Adds a depthwise convolution; inside a separable one, its output is written too."""
        amount = positions * _taps(kernel) * kernel.shape[-1] * self._prices.depthwise
        is_inside = isinstance(flow.call.operation, keras.layers.SeparableConv2D)
        self._single += self._row(flow.inputs[0]) * (amount + is_inside * positions * self._prices.value)

    def _row(self, numbers: Numbers) -> np.ndarray:
        """For each group, the number of these channels per unit."""
        return np.bincount(self._group[numbers], minlength=len(self._sizes)) / self._sizes


def _per_value(flow: CallFlow, prices: Prices) -> float:
    """The cost of one output value of a call, without multiply-adds."""
    layer = flow.call.operation
    name = getattr(getattr(layer, "activation", None), "__name__", "linear")
    curve = 0.0 if name in _FUSED else prices.curve
    if isinstance(layer, keras.layers.Activation):
        return curve
    if isinstance(layer, _FREE):
        return curve
    return curve + prices.value * (1 if isinstance(layer, keras.layers.Concatenate) else len(flow.inputs))


def _taps(kernel: Any) -> int:
    """Height times width of a kernel (h, w, in, out); 1 for a kernel (in, out)."""
    return math.prod(kernel.shape[:-2])


def _positions(x: Any) -> int:
    """Height times width of a feature map (B, H, W, C)."""
    if None in x.shape[1:-1]:
        raise EffkerasError(
            "channels cannot be pruned where the input size is open; build the model with a fixed one"
        )
    return math.prod(x.shape[1:-1])
