"""Images of a report: charts of the trials, and a drawing of the best network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import CountingNet, Shape
from effkeras.graph.heads import classifier, detector
from effkeras.graph.vocabulary import Conv, Depthwise
from effkeras.search.objectives import pareto_front
from effkeras.search.reporting.searches import Search, best_so_far, expected_best
from effkeras.search.reporting.tables import cost_name
from effkeras.support.drawing import (
    LIGHT,
    Theme,
    add_legend,
    legend_dot,
    new_canvas,
    png_of,
    shortened,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_MOST_BARS, _LABEL = 20, 32
# If the best three quarters of the rewards take less than this part of the axis, the axis shows only them.
_CROWDED = 0.5
_ROW = 0.27  # inches


def pareto_chart(
    searches: Sequence[Search], cost: str, theme: Theme = LIGHT, target: float | None = None
) -> bytes:
    """A PNG: accuracy against a cost for every trial; the Pareto front is filled and joined.

    `target`, the desired cost, is drawn as a line. Raises EffkerasError without matplotlib, and when a
    trial lacks the cost.
    """
    canvas = new_canvas(4.0, theme)
    axes = canvas.figure.subplots()
    style_axes(axes, f"Accuracy against {cost_name(cost)}", theme)
    for colour, search in zip(itertools.cycle(theme.palette), searches):
        points = [(point.costs[cost], point.accuracy) for point in search.points]
        front = sorted(points[index] for index in pareto_front([(a, c) for c, a in points]))
        across, up = zip(*points, strict=True)
        axes.scatter(across, up, s=18, facecolor=theme.paper, edgecolor=colour, linewidth=1)
        axes.plot(*zip(*front, strict=True), color=colour, linewidth=1.6, marker="o", markersize=5, zorder=3)
        best = search.best
        axes.scatter(best.costs[cost], best.accuracy, s=130, marker="*", color=theme.ink, zorder=4)
    axes.set_xlabel(cost_name(cost))
    axes.set_ylabel("accuracy (validation)")
    axes.ticklabel_format(axis="x", style="plain")
    _scale_costs(axes, [point.costs[cost] for one in searches for point in one.points])
    entries = [legend_dot(colour, one.name) for colour, one in zip(itertools.cycle(theme.palette), searches)]
    entries.append(_star(theme))
    if target is not None:
        entries.append(axes.axvline(target, color=theme.faint, linewidth=1.2, linestyle="--", label="target"))
    add_legend(canvas, entries, theme)
    return png_of(canvas)


def progress_chart(searches: Sequence[Search], theme: Theme = LIGHT) -> bytes:
    """A PNG: each trial's reward and the best so far, by the number of trials.

    The line of a random search is the expected best reward over all orders of its trials.
    """
    canvas = new_canvas(3.6, theme)
    axes = canvas.figure.subplots()
    style_axes(axes, "Best reward so far", theme)
    for colour, search in zip(itertools.cycle(theme.palette), searches):
        rewards = [point.reward for point in search.points]
        trials = range(1, len(rewards) + 1)
        is_random = search.strategy == "random"
        best = expected_best(rewards) if is_random else best_so_far(rewards)
        axes.scatter(trials, rewards, s=12, color=colour, alpha=0.5, linewidth=0)
        axes.plot(trials, best, color=colour, linewidth=2, linestyle=(0, (4, 2)) if is_random else "-")
    _leave_out_the_worst(axes, [point.reward for search in searches for point in search.points], theme)
    axes.set_xlabel("candidates evaluated")
    axes.set_ylabel("reward")
    locator: Any = axes.xaxis.get_major_locator()
    locator.set_params(integer=True)
    entries = [
        legend_dot(colour, _course(one)) for colour, one in zip(itertools.cycle(theme.palette), searches)
    ]
    add_legend(canvas, entries, theme)
    return png_of(canvas)


def importance_chart(shares: Mapping[str, float], theme: Theme = LIGHT) -> bytes:
    """A PNG: a bar for each gene, the most important first."""
    shown = list(shares.items())[:_MOST_BARS]
    canvas = new_canvas(0.26 * len(shown) + 1.1, theme)
    axes = canvas.figure.subplots()
    style_axes(axes, "What the reward depended on", theme)
    bars = axes.barh(
        range(len(shown)), [100 * share for _, share in shown], color=theme.palette[0], height=0.7
    )
    axes.bar_label(
        bars, [f"{100 * share:.0f}" for _, share in shown], padding=4, fontsize=9, color=theme.faint
    )
    axes.set_yticks(
        range(len(shown)), [shortened(name, _LABEL) for name, _ in shown], fontsize=9.5, color=theme.ink
    )
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1, y=0.01)
    axes.set_xlabel("importance (%), PED-ANOVA")
    return png_of(canvas)


def _leave_out_the_worst(axes: Axes, rewards: Sequence[float], theme: Theme) -> None:
    """Cuts off a few bad candidates that would compress the others, and notes their number in the chart."""
    low, quarter, high = np.quantile(rewards, [0, 0.25, 1])
    if high - quarter >= _CROWDED * (high - low):
        return
    room = 0.06 * (high - quarter)
    axes.set_ylim(quarter - room, high + room)
    below = sum(one < quarter - room for one in rewards)
    sentence = "1 candidate lies below" if below == 1 else f"{below} candidates lie below"
    axes.text(0.99, 0.02, sentence, ha="right", color=theme.faint, fontsize=9, transform=axes.transAxes)


def _scale_costs(axes: Axes, costs: Sequence[float]) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

    if min(costs) > 0 and max(costs) / min(costs) > 5:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.locator_params(axis="x", nbins=6)
    large = max(costs) >= 1000
    axes.xaxis.set_major_formatter(
        EngFormatter(sep=" ") if large else FuncFormatter(lambda one, _: f"{one:g}")
    )


def _course(search: Search) -> str:
    return f"{search.name} (expected of random search)" if search.strategy == "random" else search.name


def _star(theme: Theme) -> Line2D:
    entry = legend_dot(theme.ink, "highest reward")
    entry.set_marker("*")
    entry.set_markersize(11)
    return entry


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
