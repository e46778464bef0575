"""Draws a network: its parts from input to output, their shapes and their shares of the multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import CountingNet, Shape
from effkeras.graph.heads import classifier, detector
from effkeras.graph.vocabulary import Conv, Depthwise
from effkeras.support.drawing import LIGHT, Theme, new_canvas, png_of, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.27  # inches


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or dense layer: its multiply-adds for one image, and its output shape."""

    name: str
    what: str
    macs: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Part:
    """Layers with the same name prefix, such as block3: their kinds, and the output shape of the last."""

    name: str
    what: str
    macs: int
    shape: Shape


@dataclass(slots=True)
class _Listing(CountingNet):
    """Records every layer while counting."""

    noted: list[Layer] = field(default_factory=list)

    def conv(self, x: Shape, name: str, conv: Conv) -> Shape:
        return self._noted(name, _kind(conv), lambda: CountingNet.conv(self, x, name, conv))

    def depthwise(self, x: Shape, name: str, depthwise: Depthwise) -> Shape:
        what = f"depthwise {depthwise.kernel}x{depthwise.kernel}"
        return self._noted(name, what, lambda: CountingNet.depthwise(self, x, name, depthwise))

    def separable(self, name: str, conv: Conv) -> Callable[[Shape], Shape]:
        call = CountingNet.separable(self, name, conv)
        return lambda x: self._noted(name, f"separable {_side(conv)}", lambda: call(x))

    def dense(self, x: Shape, name: str, units: int) -> Shape:
        return self._noted(name, "dense", lambda: CountingNet.dense(self, x, name, units))

    def _noted(self, name: str, what: str, call: Callable[[], Shape]) -> Shape:
        before = self.macs
        shape = call()
        self.noted.append(Layer(name, what, self.macs - before, shape))
        return shape


def layers_of(spec: ModelSpec) -> list[Layer]:
    """Every layer with weights except batch norms, in graph order; once for each call of a shared layer.

    Raises EffkerasError for a network that only Keras can count.
    """
    net = _Listing()
    graph = detector if spec.is_detector else classifier
    graph(net, Shape(*spec.input.size, 3), spec)  # type: ignore[operator]
    return net.noted


def parts_of(spec: ModelSpec) -> list[Part]:
    """The blocks, cells and heads of a network."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers_of(spec):
        groups.setdefault(layer.name.split("_")[0], []).append(layer)
    return [
        Part(name, _kinds(layers), sum(layer.macs for layer in layers), layers[-1].shape)
        for name, layers in groups.items()
    ]


def draw_network(spec: ModelSpec, title: str, theme: Theme = LIGHT) -> bytes:
    """A PNG: for each part, a bar with its share of the multiply-adds, its output shape and its layers.

    Raises EffkerasError without matplotlib.
    """
    parts = parts_of(spec)
    total = sum(part.macs for part in parts)
    canvas = new_canvas(_ROW * len(parts) + 1.2, theme)
    axes = canvas.figure.subplots()
    style_axes(axes, f"{title}: {total / 1e6:.2f} million multiply-adds", theme)
    _draw(axes, parts, total, theme)
    return png_of(canvas)


def _draw(axes: Axes, parts: list[Part], total: int, theme: Theme) -> None:
    kinds = list(dict.fromkeys(part.name.rstrip("0123456789") for part in parts))
    colours = {kind: theme.palette[index % len(theme.palette)] for index, kind in enumerate(kinds)}
    shares = [100 * part.macs / max(total, 1) for part in parts]
    names = [f"{part.name}  {_size(part.shape)}" for part in parts]
    bars = axes.barh(
        range(len(parts)), shares, color=[colours[part.name.rstrip("0123456789")] for part in parts]
    )
    axes.bar_label(bars, [part.what for part in parts], padding=4, fontsize=9, color=theme.faint)
    axes.set_yticks(range(len(parts)), names, fontsize=9.5, color=theme.ink)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(y=0.01)
    axes.set_xlim(0, max(shares) * 1.9)
    axes.set_xlabel("share of the multiply-adds (%)")


def _size(shape: Shape) -> str:
    if shape.height == shape.width == 1:
        return f"{shape.channels}"
    return f"{shape.height} x {shape.width} x {shape.channels}"


def _kind(conv: Conv) -> str:
    return f"conv {_side(conv)}"


def _side(conv: Conv) -> str:
    sides = (conv.kernel, conv.kernel) if isinstance(conv.kernel, int) else conv.kernel
    return f"{sides[0]}x{sides[1]}"


def _kinds(layers: list[Layer]) -> str:
    """The kinds of layers with their counts, such as "2 separable 3x3, dense"."""
    return ", ".join(_counted([layer.what for layer in layers if layer.what != "conv 1x1"] or ["conv 1x1"]))


def _counted(words: list[str]) -> Iterator[str]:
    for word in dict.fromkeys(words):
        times = words.count(word)
        yield word if times == 1 else f"{times} {word}"
