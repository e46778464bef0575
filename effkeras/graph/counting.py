"""Parameters and multiply-adds of a definition, by arithmetic: no TensorFlow, nothing built.

Convention: one MAC is one multiply-add of a convolution or dense layer. Batch normalisation,
activations, biases, pooling and the gates' products are not counted; batch normalisation folds away in
an artifact, and the papers count the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.graph.backbone import classifier
from effkeras.graph.efficientdet import detector
from effkeras.graph.vocabulary import Conv, Depthwise, Padding, Pool, Vocabulary
from effkeras.networks import BatchNormSpec


@dataclass(frozen=True, slots=True)
class Shape:
    """Height, width and channels of a map."""

    height: int
    width: int
    channels: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What a definition costs: weights, and multiply-adds for one picture."""

    trainable: int
    total: int
    macs: int


@dataclass(slots=True)
class CountingNet(Vocabulary[Shape]):
    """Adds up weights and MACs while a graph function runs over shapes."""

    trainable: int = 0
    frozen: int = 0
    macs: int = 0
    layers: dict[str, int] = field(default_factory=dict)

    def size(self, x: Shape) -> tuple[int, int]:
        return x.height, x.width

    def channels(self, x: Shape) -> int:
        return x.channels

    def conv(self, x: Shape, name: str, conv: Conv) -> Shape:
        weights = conv.kernel**2 * x.channels * conv.filters
        self._weigh(name, weights + conv.bias * conv.filters, conv.filters)
        y = _slid(x, conv, conv.filters)
        self.macs += weights * y.height * y.width
        return y

    def depthwise(self, x: Shape, name: str, depthwise: Depthwise) -> Shape:
        weights = depthwise.kernel**2 * x.channels
        self._weigh(name, weights, x.channels)
        y = _slid(x, depthwise, x.channels)
        self.macs += weights * y.height * y.width
        return y

    def separable(self, name: str, conv: Conv) -> Callable[[Shape], Shape]:
        def call(x: Shape) -> Shape:
            weights = conv.kernel**2 * x.channels + x.channels * conv.filters
            if name not in self.layers:
                self._weigh(name, weights + conv.bias * conv.filters, conv.filters)
            y = _slid(x, conv, conv.filters)
            self.macs += weights * y.height * y.width
            return y

        return call

    def batch_norm(self, x: Shape, name: str, spec: BatchNormSpec) -> Shape:
        self._weigh(name, 2 * x.channels, x.channels)
        self.frozen += 2 * x.channels
        return x

    def activation(self, x: Shape, name: str, kind: str) -> Shape:
        return x

    def add(self, xs: Sequence[Shape], name: str) -> Shape:
        widths = sorted({x.channels for x in xs})
        if len(widths) > 1:
            raise EffkerasError(f"{name} cannot add maps of {' and '.join(map(str, widths))} channels")
        return xs[0]

    def fuse(self, xs: Sequence[Shape], name: str) -> Shape:
        self._weigh(name, len(xs), xs[0].channels)
        return xs[0]

    def multiply(self, x: Shape, gate: Shape, name: str) -> Shape:
        return x

    def mean(self, x: Shape, name: str) -> Shape:
        return Shape(1, 1, x.channels)

    def pool(self, x: Shape, name: str, pool: Pool) -> Shape:
        padding: Padding = "valid" if pool.padding == "valid" else "same"
        return _slid(x, Depthwise(pool.window, pool.stride, padding), x.channels)

    def subsample(self, x: Shape, name: str, offset: int) -> Shape:
        return _slid(x, Depthwise(1, 2, "valid"), x.channels)

    def concat(self, xs: Sequence[Shape], name: str) -> Shape:
        sizes = {(x.height, x.width) for x in xs}
        if len(sizes) > 1:
            raise EffkerasError(f"{name} cannot put maps of {sorted(sizes)} side by side")
        return Shape(xs[0].height, xs[0].width, sum(x.channels for x in xs))

    def take(self, x: Shape, name: str, start: int, stop: int) -> Shape:
        return Shape(x.height, x.width, stop - start)

    def upsample(self, x: Shape, name: str, size: tuple[int, int]) -> Shape:
        return Shape(*size, x.channels)

    def dropout(self, x: Shape, name: str, rate: float, whole_sample: bool) -> Shape:
        return x

    def drop_path(self, x: Shape, name: str, keep: float) -> Shape:
        return x

    def flatten(self, x: Shape, name: str) -> Shape:
        return x

    def dense(self, x: Shape, name: str, units: int) -> Shape:
        self._weigh(name, (x.channels + 1) * units, units)
        self.macs += x.channels * units
        return Shape(1, 1, units)

    def rows(self, xs: Sequence[Shape], name: str, width: int) -> Shape:
        return Shape(1, sum(x.height * x.width * x.channels // width for x in xs), width)

    def _weigh(self, name: str, weights: int, filters: int) -> None:
        self.layers[name] = filters
        self.trainable += weights


def count(spec: ModelSpec) -> Counts:
    """Counts of the model that `effkeras.build` makes from this definition."""
    net = run_over_shapes(spec)
    return Counts(net.trainable, net.trainable + net.frozen, net.macs)


def layer_channels(spec: ModelSpec) -> dict[str, int]:
    """Channels of every layer with weights, by its name."""
    return run_over_shapes(spec).layers


def run_over_shapes(spec: ModelSpec) -> CountingNet:
    """The net after the definition's graph function has run over shapes."""
    net = CountingNet()
    graph = detector if spec.is_detector else classifier
    graph(net, Shape(*spec.input.size, 3), spec)  # type: ignore[operator]
    return net


def _slid(x: Shape, window: Conv | Depthwise, channels: int) -> Shape:
    """The shape after sliding a window over a map."""

    def length(side: int) -> int:
        if window.padding == "valid":
            return (side - window.kernel) // window.stride + 1
        return -(-side // window.stride)

    height, width = length(x.height), length(x.width)
    if min(height, width) < 1:
        raise EffkerasError(f"a map of {x.height} x {x.width} is too small for a window of {window.kernel}")
    return Shape(height, width, channels)
