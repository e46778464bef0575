"""Counts parameters and multiply-adds of a definition by arithmetic, without TensorFlow or a model.

`effkeras.graph.vocabulary.Counts` says what is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import BatchNormSpec
from effkeras.graph.heads import classifier, detector
from effkeras.graph.vocabulary import (
    ACTIVATION_OPERATIONS,
    Application,
    Conv,
    Counts,
    Depthwise,
    Padding,
    Pool,
    Vocabulary,
    pair,
)
from effkeras.support.errors import EffkerasError, did_you_mean

_FROZEN = ("moving_mean", "moving_variance")


@dataclass(frozen=True, slots=True)
class Shape:
    """Height, width and channels of a map."""

    height: int
    width: int
    channels: int

    @property
    def values(self) -> int:
        """Values in the map."""
        return self.height * self.width * self.channels


@dataclass(slots=True)
class CountingNet(Vocabulary[Shape]):
    """Adds up weights, MACs and operations while a graph function runs on shapes."""

    macs: int = 0
    others: int = 0
    layers: dict[str, int] = field(default_factory=dict)
    shapes: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)

    def size(self, x: Shape) -> tuple[int, int]:
        return x.height, x.width

    def channels(self, x: Shape) -> int:
        return x.channels

    def conv(self, x: Shape, name: str, conv: Conv) -> Shape:
        kernel = (*pair(conv.kernel), x.channels, conv.filters)
        self._weigh(name, conv.filters, {"kernel": kernel, **_bias(conv)})
        y = _slid(x, conv, conv.filters)
        self.macs += math.prod(kernel) * y.height * y.width
        self.others += conv.bias * y.values
        return y

    def depthwise(self, x: Shape, name: str, depthwise: Depthwise) -> Shape:
        kernel = (depthwise.kernel, depthwise.kernel, x.channels, 1)
        self._weigh(name, x.channels, {"kernel": kernel})
        y = _slid(x, depthwise, x.channels)
        self.macs += math.prod(kernel) * y.height * y.width
        return y

    def separable(self, name: str, conv: Conv) -> Callable[[Shape], Shape]:
        first: list[Shape] = []

        def call(x: Shape) -> Shape:
            first.append(x)
            _check_equal([first[0], x], f"{name} cannot be called on")
            kernels = {
                "depthwise_kernel": (*pair(conv.kernel), x.channels, 1),
                "pointwise_kernel": (1, 1, x.channels, conv.filters),
            }
            self._weigh(name, conv.filters, {**kernels, **_bias(conv)})
            y = _slid(x, conv, conv.filters)
            self.macs += sum(map(math.prod, kernels.values())) * y.height * y.width
            self.others += conv.bias * y.values
            return y

        return call

    def batch_norm(self, x: Shape, name: str, spec: BatchNormSpec) -> Shape:
        names = ("gamma", "beta", *_FROZEN)
        self._weigh(name, x.channels, dict.fromkeys(names, (x.channels,)))
        return x

    def activation(self, x: Shape, name: str, kind: str) -> Shape:
        self.others += ACTIVATION_OPERATIONS.get(kind, 0) * x.values
        return x

    def add(self, xs: Sequence[Shape], name: str) -> Shape:
        _check_equal(xs, f"{name} cannot add")
        self.others += (len(xs) - 1) * xs[0].values
        return xs[0]

    def fuse(self, xs: Sequence[Shape], name: str) -> Shape:
        _check_equal(xs, f"{name} cannot fuse")
        self._weigh(name, xs[0].channels, {f"w{index}": () for index in range(len(xs))})
        self.others += (3 * len(xs) - 1) * xs[0].values
        return xs[0]

    def multiply(self, x: Shape, gate: Shape, name: str) -> Shape:
        _check_equal([x, gate], f"{name} cannot multiply")
        self.others += x.values
        return x

    def mean(self, x: Shape, name: str) -> Shape:
        self.others += x.values
        return Shape(1, 1, x.channels)

    def pool(self, x: Shape, name: str, pool: Pool) -> Shape:
        padding: Padding = "valid" if pool.padding == "valid" else "same"
        y = _slid(x, Depthwise(pool.window, pool.stride, padding), x.channels)
        self.others += pool.window**2 * y.values
        return y

    def shift(self, x: Shape, name: str) -> Shape:
        return x

    def concat(self, xs: Sequence[Shape], name: str) -> Shape:
        sizes = {(x.height, x.width) for x in xs}
        if len(sizes) > 1:
            raise EffkerasError(f"{name} cannot concatenate maps of sizes {sorted(sizes)}")
        return Shape(xs[0].height, xs[0].width, sum(x.channels for x in xs))

    def take(self, x: Shape, name: str, start: int, stop: int) -> Shape:
        return Shape(x.height, x.width, stop - start)

    def upsample(self, x: Shape, name: str, size: tuple[int, int]) -> Shape:
        return Shape(*size, x.channels)

    def dropout(self, x: Shape, name: str, rate: float, whole_sample: bool) -> Shape:
        return x

    def drop_path(self, x: Shape, name: str, keep: float) -> Shape:
        return x

    def drop_block(self, x: Shape, name: str, keep: float, size: int) -> Shape:
        return x

    def flatten(self, x: Shape, name: str) -> Shape:
        return Shape(1, 1, x.values)

    def dense(self, x: Shape, name: str, units: int) -> Shape:
        self._weigh(name, units, {"kernel": (x.channels, units), "bias": (units,)})
        self.macs += x.channels * units
        self.others += units
        return Shape(1, 1, units)

    def transposed(self, x: Shape, name: str, conv: Conv) -> Shape:
        kernel = (*pair(conv.kernel), conv.filters, x.channels)
        self._weigh(name, conv.filters, {"kernel": kernel, **_bias(conv)})
        rows, columns = pair(conv.stride)
        y = Shape(x.height * rows, x.width * columns, conv.filters)
        self.macs += math.prod(kernel) * x.height * x.width  # the whole kernel is applied per input pixel
        self.others += conv.bias * y.values
        return y

    def crop(self, x: Shape, name: str, size: tuple[int, int]) -> Shape:
        return Shape(*size, x.channels)

    def rows(self, xs: Sequence[Shape], name: str, width: int) -> Shape:
        return Shape(1, sum(x.height * x.width * x.channels // width for x in xs), width)

    def layer_norm(self, x: Shape, name: str, epsilon: float) -> Shape:
        self._weigh(name, x.channels, dict.fromkeys(("gamma", "beta"), (x.channels,)))
        return x

    def application(
        self, x: Shape, network: Application, widths: Mapping[str, int]
    ) -> list[tuple[Shape, int]]:
        from effkeras.graph.keras_counting import count_application  # needs Keras, unlike the rest

        counted = count_application(network, (x.height, x.width), widths)
        self.macs += counted.macs
        self.others += counted.others
        self.layers |= counted.layers
        self.shapes |= counted.shapes
        return [(Shape(*shape), nominal) for shape, nominal in counted.maps]

    def external(self, x: Shape, taps: tuple[str, ...]) -> list[Shape]:
        raise EffkerasError(
            "a custom Keras model cannot be counted from its definition; "
            "load its .keras file and use effkeras.graph.keras_counting.count_layers"
        )

    def _weigh(self, name: str, filters: int, weights: Mapping[str, tuple[int, ...]]) -> None:
        """Records a layer's weights; a second call of the layer shares them."""
        self.layers[name] = filters
        self.shapes |= {(name, weight): shape for weight, shape in weights.items()}


def count(spec: ModelSpec) -> Counts:
    """Counts of the model that `effkeras.build` builds from this definition."""
    net = run_over_shapes(spec)
    sizes = {weight: math.prod(shape) for weight, shape in net.shapes.items()}
    frozen = sum(size for (_, weight), size in sizes.items() if weight in _FROZEN)
    total = sum(sizes.values())
    return Counts(total - frozen, total, net.macs, 2 * net.macs + net.others)


def cost(spec: ModelSpec) -> tuple[int, float]:
    """Trainable parameters and MACs: counted, or the published ones where counting needs Keras."""
    if spec.network.needs_keras and spec.published is not None and not spec.channels:
        return spec.published.parameters, spec.published.macs
    counts = count(spec)
    return counts.trainable, counts.macs


def layer_channels(spec: ModelSpec) -> dict[str, int]:
    """The channels of each layer with weights, by layer name."""
    return run_over_shapes(spec).layers


def backbone_layers(spec: ModelSpec) -> frozenset[str]:
    """Names of the network's layers with weights, without a classifier's head or a detector's BiFPN."""
    net = CountingNet()
    spec.network.features(net, Shape(*spec.input.size, 3))
    return frozenset(net.layers)


def weight_shapes(spec: ModelSpec) -> dict[tuple[str, str], tuple[int, ...]]:
    """The shape of every weight, by layer and weight name."""
    return run_over_shapes(spec).shapes


def run_over_shapes(spec: ModelSpec) -> CountingNet:
    """The counting net after the definition's graph function has run on shapes.

    Raises EffkerasError for `[channels]` that name no layer, or contradict each other.
    """
    net = CountingNet()
    graph = detector if spec.is_detector else classifier
    graph(net, Shape(*spec.input.size, 3), spec)  # type: ignore[operator]
    for name, width in spec.channels.items():
        if name not in net.layers:
            raise EffkerasError(f"{spec.name}: [channels] names {name!r}; {did_you_mean(name, net.layers)}")
        if net.layers[name] != width:
            raise EffkerasError(f"{spec.name}: [channels] cannot change {name!r}; its width follows others")
    return net


def _check_equal(xs: Sequence[Shape], what: str) -> None:
    widths = sorted({x.channels for x in xs})
    if len(widths) > 1:
        raise EffkerasError(
            f"{what} maps of {' and '.join(map(str, widths))} channels; "
            "give the layers before it the same width in [channels]"
        )


def _bias(conv: Conv) -> dict[str, tuple[int, ...]]:
    return {"bias": (conv.filters,)} if conv.bias else {}


def _slid(x: Shape, window: Conv | Depthwise, channels: int) -> Shape:
    """The shape after sliding a window over a map."""

    def length(side: int, kernel: int, stride: int) -> int:
        if window.padding == "valid":
            return (side - kernel) // stride + 1
        return -(-side // stride)

    kernel, stride = pair(window.kernel), pair(window.stride)
    height, width = map(length, (x.height, x.width), kernel, stride)
    if min(height, width) < 1:
        raise EffkerasError(f"a map of {x.height} x {x.width} is too small for a window of {window.kernel}")
    return Shape(height, width, channels)
