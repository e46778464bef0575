"""Draws charts as PNG: accuracy against size or latency, training curves, and quantization errors."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from effkeras.support.drawing import (
    LIGHT,
    Theme,
    add_legend,
    any_script,
    legend_dot,
    new_canvas,
    png_of,
    shortened,
    style_axes,
)
from export.reporting.chart_labels import Line, Mark, label
from quantize.runs.records import LayerError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

_DASHES = (0, (4, 3))
_NAMED_LAYERS = 12  # those with the largest errors, which a chart names
_LOG_FROM = 12.0  # the axis is linear up to this ratio of largest to smallest cost


@dataclass(frozen=True, slots=True)
class Point:
    """One measured artifact: its cost (with its spread, if known) and its accuracy."""

    label: str
    cost: float
    accuracy: float
    optimal: bool
    spread: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The artifacts of one run, and the accuracy of the Keras float model (`reference`)."""

    name: str
    points: tuple[Point, ...]
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; `cost` and `unit` label the cost axis."""

    title: str
    cost: str
    unit: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A value by epoch or step, for one run."""

    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


def trade_off(panels: Sequence[Panel], accuracy: str, theme: Theme = LIGHT) -> bytes:
    """A PNG with the panels in one column: `accuracy` against each panel's cost.

    The Pareto-optimal points of a series are filled and joined by a line.
    """
    canvas = new_canvas(3.1 * len(panels) + 0.7, theme)
    grid = canvas.figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        style_axes(axes, panel.title, theme)
        axes.set_xlabel(f"{panel.cost} ({panel.unit})")
        axes.set_ylabel(accuracy)
        axes.xaxis.set_tick_params(labelbottom=True)
        for colour, series in zip(itertools.cycle(theme.palette), panel.series):
            _draw(axes, series, colour, theme)
    _scale(grid[0], panels)
    add_legend(canvas, _entries(panels[0].series, theme), theme)
    _settle(canvas)
    for axes, panel in zip(grid, panels, strict=True):
        _name_points(canvas, axes, panel, theme)
    return png_of(canvas)


def training(
    accuracy: Sequence[Curve],
    loss: Sequence[Curve],
    name: str,
    theme: Theme = LIGHT,
    by: Literal["epoch", "step"] = "epoch",
) -> bytes:
    """A PNG with the runs' validation accuracy, labelled `name`, above their loss, by epoch or step.

    Curves at the same position belong to one run; a curve without measurements is empty.
    """
    shown = [
        (title, curves) for title, curves in ((name, accuracy), ("loss", loss)) if any(map(_known, curves))
    ]
    canvas = new_canvas(2.0 * len(shown) + 0.5, theme)
    grid = canvas.figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, curves) in zip(grid, shown, strict=True):
        style_axes(axes, "Training" if axes is grid[0] else "", theme)
        axes.set_ylabel(f"{title} (validation)" if title == name else title)
        for colour, curve in zip(itertools.cycle(theme.palette), curves):
            marker = "o" if len(curve.epochs) == 1 else ""
            axes.plot(curve.epochs, curve.values, color=colour, linewidth=2, marker=marker)
    grid[-1].set_xlabel(by)
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    canvas.figure.align_ylabels()
    if len(accuracy) > 1:
        add_legend(canvas, _run_entries([curve.name for curve in accuracy], theme), theme)
    return png_of(canvas)


def layer_errors(artifacts: Mapping[str, Sequence[LayerError]], theme: Theme = LIGHT) -> bytes:
    """A PNG with the quantization errors of artifacts: by place in the graph, above the largest by name."""
    placed = {
        name: sorted((one.place, one.error) for one in layers if one.place)
        for name, layers in artifacts.items()
    }
    worst = _worst_layers(artifacts.values())
    heights = [*([2.2] if any(placed.values()) else []), 0.25 * len(worst) + 0.3]
    canvas = new_canvas(sum(heights) + 1.2, theme)
    grid = canvas.figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes in grid:
        style_axes(axes, "Quantization error by layer" if axes is grid[0] else "", theme)
    if len(heights) > 1:
        _draw_along(grid[0], placed.values(), theme)
    _draw_worst(grid[-1], artifacts.values(), worst, theme)
    add_legend(canvas, _run_entries(list(artifacts), theme), theme)
    return png_of(canvas)


def _worst_layers(artifacts: Iterable[Sequence[LayerError]]) -> list[str]:
    """The layers with the largest errors in any artifact, largest first."""
    errors: dict[str, float] = {}
    for one in itertools.chain.from_iterable(artifacts):
        errors[one.layer] = max(one.error, errors.get(one.layer, 0))
    return sorted(errors, key=lambda layer: -errors[layer])[:_NAMED_LAYERS]


def _draw_along(axes: Axes, artifacts: Iterable[Sequence[tuple[int, float]]], theme: Theme) -> None:
    from matplotlib.ticker import MaxNLocator

    for colour, points in zip(itertools.cycle(theme.palette), artifacts):
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.1)
    axes.set(xlabel="operator, from input to output", ylabel="error")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_worst(
    axes: Axes, artifacts: Collection[Sequence[LayerError]], names: Sequence[str], theme: Theme
) -> None:
    for colour, layers in zip(itertools.cycle(theme.palette), artifacts):
        rows = [(one.error, names.index(one.layer)) for one in layers if one.layer in names]
        if rows:
            axes.plot(*zip(*rows, strict=True), color=colour, linestyle="", marker="o", markersize=6)
    axes.set_yticks(range(len(names)), [shortened(name, 28) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.05 * max(one.error for one in itertools.chain.from_iterable(artifacts)) or 1)
    axes.set_xlabel("error, as a share of the spread in float")


def _known(curve: Curve) -> bool:
    return bool(curve.epochs)


def _draw(axes: Axes, series: Series, colour: str, theme: Theme) -> None:
    if series.reference is not None:
        axes.axhline(series.reference, color=colour, linewidth=1.2, linestyle=_DASHES, alpha=0.7)
    front = _front(series)
    if front:
        axes.plot(*zip(*front, strict=True), color=colour, linewidth=1.4, alpha=0.55, zorder=2)
    for point in series.points:
        if point.spread:
            axes.plot(point.spread, [point.accuracy] * 2, color=colour, linewidth=2.2, alpha=0.35, zorder=2)
        fill, layer = (colour, 4) if point.optimal else (theme.paper, 3)
        axes.scatter(
            point.cost, point.accuracy, s=62, facecolor=fill, edgecolor=colour, linewidth=1.8, zorder=layer
        )


def _settle(canvas: FigureCanvasAgg) -> None:
    """Fixes the layout, so that labels can be placed in pixels."""
    engine = canvas.figure.get_layout_engine()
    if engine is not None:
        with any_script():
            engine.execute(canvas.figure)
    canvas.figure.set_layout_engine("none")


def _name_points(canvas: FigureCanvasAgg, axes: Axes, panel: Panel, theme: Theme) -> None:
    marks, lines = [], []
    for colour, series in zip(itertools.cycle(theme.palette), panel.series):
        marks += [Mark(point.cost, point.accuracy, point.label, colour) for point in series.points]
        lines += [Line(*ends) for ends in itertools.pairwise(_front(series))]
        for point in series.points:
            low, high = point.spread or (point.cost, point.cost)
            lines.append(Line((low, point.accuracy), (high, point.accuracy)))
        if series.reference is not None:
            left, right = axes.get_xlim()
            lines.append(Line((left, series.reference), (right, series.reference)))
    label(axes, marks, lines, canvas.get_renderer())


def _front(series: Series) -> list[tuple[float, float]]:
    return sorted((point.cost, point.accuracy) for point in series.points if point.optimal)


def _scale(axes: Axes, panels: Sequence[Panel]) -> None:
    every = [series for panel in panels for series in panel.series]
    points = [point for series in every for point in series.points]
    costs = [cost for point in points for cost in (point.cost, *(point.spread or ()))]
    levels = [point.accuracy for point in points]
    levels += [series.reference for series in every if series.reference is not None]
    low, high = min(levels), max(levels)
    room = max((high - low) * 0.25, 0.01)  # do not magnify differences far below 0.01
    axes.set_ylim(low - room, high + room)
    if min(costs) > 0 and max(costs) / min(costs) > _LOG_FROM:
        _logarithmic(axes, min(costs), max(costs))
    else:
        axes.set_xlim(0, max(costs) * 1.12 or 1)


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_xlim(low / 1.4, high * 1.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _entries(series: Sequence[Series], theme: Theme) -> list[Line2D]:
    from matplotlib.lines import Line2D

    entries = _run_entries([one.name for one in series], theme) if len(series) > 1 else []
    entries.append(legend_dot(theme.faint, "Pareto-optimal"))
    if any(one.reference is not None for one in series):
        entries.append(Line2D([], [], color=theme.faint, linestyle=_DASHES, label="Keras float model"))
    return entries


def _run_entries(names: Sequence[str], theme: Theme) -> list[Line2D]:
    return [legend_dot(colour, name) for colour, name in zip(itertools.cycle(theme.palette), names)]
