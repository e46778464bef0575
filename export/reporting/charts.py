"""Pictures of measurements: accuracy against a cost, and the course of a training.

Everything is drawn through matplotlib's objects, so that a report changes no setting of its caller.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.errors import EffkerasError
from export.reporting.chart_labels import Line, Mark, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

WIDTH, DPI = 5.8, 200
_DASHES = (0, (4, 3))
_LOG_FROM = 12.0  # a linear axis serves up to this ratio of largest to smallest


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a chart, `palette` for its runs in turn."""

    paper: str
    ink: str
    faint: str
    grid: str
    palette: tuple[str, ...]


# Okabe and Ito's colours, which stay apart for colour-blind readers: on each page those that stand out there.
LIGHT = Theme(
    paper="#ffffff",
    ink="#1f2328",
    faint="#656d76",
    grid="#e4e7eb",
    palette=("#0072B2", "#D55E00", "#009E73", "#A3507F", "#8A6500"),
)
DARK = Theme(
    paper="#16191d",
    ink="#e3e6ea",
    faint="#9aa3ad",
    grid="#2c3138",
    palette=("#56B4E9", "#E69F00", "#2DBE94", "#DD91BC", "#F0E442"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One measured artifact: what it costs (with its spread, if known) and how accurate it is."""

    label: str
    cost: float
    accuracy: float
    optimal: bool
    spread: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The artifacts of one run, and the accuracy of the float model that they come from."""

    name: str
    points: tuple[Point, ...]
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; `unit` is what stands behind the numbers of the cost axis."""

    title: str
    cost: str
    unit: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure by epoch, for one run."""

    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


def trade_off(panels: Sequence[Panel], accuracy: str, theme: Theme = LIGHT) -> bytes:
    """A PNG with one panel above the other: `accuracy` against each panel's cost.

    Points that no other of their series beats in both are filled and joined by a line.
    """
    canvas = _canvas(3.1 * len(panels) + 0.7, theme)
    grid = canvas.figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _style(axes, panel.title, theme)
        axes.set_xlabel(f"{panel.cost} ({panel.unit})")
        axes.set_ylabel(accuracy)
        axes.xaxis.set_tick_params(labelbottom=True)
        for colour, series in zip(itertools.cycle(theme.palette), panel.series):
            _draw(axes, series, colour, theme)
    _scale(grid[0], panels)
    _legend(canvas, _entries(panels[0].series, theme), theme)
    _settle(canvas)
    for axes, panel in zip(grid, panels, strict=True):
        _name_points(canvas, axes, panel, theme)
    return _png(canvas)


def training(accuracy: Sequence[Curve], loss: Sequence[Curve], name: str, theme: Theme = LIGHT) -> bytes:
    """A PNG with the runs' validated accuracy, called `name`, above their loss, by epoch.

    Curves at the same position belong to one run; empty ones stand for what was not measured.
    """
    shown = [
        (title, curves) for title, curves in ((name, accuracy), ("loss", loss)) if any(map(_known, curves))
    ]
    canvas = _canvas(2.0 * len(shown) + 0.5, theme)
    grid = canvas.figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, curves) in zip(grid, shown, strict=True):
        _style(axes, "Training" if axes is grid[0] else "", theme)
        axes.set_ylabel(f"{title} (validation)" if title == name else title)
        for colour, curve in zip(itertools.cycle(theme.palette), curves):
            marker = "o" if len(curve.epochs) == 1 else ""
            axes.plot(curve.epochs, curve.values, color=colour, linewidth=2, marker=marker)
    grid[-1].set_xlabel("epoch")
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    canvas.figure.align_ylabels()
    if len(accuracy) > 1:
        _legend(canvas, _run_entries([curve.name for curve in accuracy], theme), theme)
    return _png(canvas)


def _known(curve: Curve) -> bool:
    return bool(curve.epochs)


def _canvas(height: float, theme: Theme) -> FigureCanvasAgg:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise EffkerasError('charts need matplotlib; pip install "effkeras[report]"') from error
    figure = Figure(
        (WIDTH, height), dpi=DPI, facecolor=theme.paper, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12)
    )
    return FigureCanvasAgg(figure)


def _style(axes: Axes, title: str, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_title(title, loc="left", fontsize=12, color=theme.ink, pad=10, parse_math=False)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.faint)
    axes.tick_params(colors=theme.faint, length=0, labelsize=10)
    axes.ticklabel_format(useOffset=False)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set(color=theme.ink, fontsize=11)


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
    """Fixes the layout, so that names can be placed by pixels."""
    engine = canvas.figure.get_layout_engine()
    if engine is not None:
        with _any_script():
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
    room = max((high - low) * 0.25, 0.01)  # differences far below a hundredth are not blown up
    axes.set_ylim(low - room, high + room)
    if min(costs) > 0 and max(costs) / min(costs) > _LOG_FROM:
        _logarithmic(axes, min(costs), max(costs))
    else:
        axes.set_xlim(0, max(costs) * 1.12)


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
    entries.append(_dot(theme.faint, "Pareto-optimal"))
    if any(one.reference is not None for one in series):
        entries.append(Line2D([], [], color=theme.faint, linestyle=_DASHES, label="Keras float model"))
    return entries


def _run_entries(names: Sequence[str], theme: Theme) -> list[Line2D]:
    return [_dot(colour, name) for colour, name in zip(itertools.cycle(theme.palette), names)]


def _legend(canvas: FigureCanvasAgg, entries: Sequence[Line2D], theme: Theme) -> None:
    legend = canvas.figure.legend(
        handles=entries,
        loc="outside lower left",
        ncols=min(len(entries), 4),
        frameon=False,
        fontsize=9.5,
        labelcolor=theme.faint,
        handletextpad=0.4,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _dot(colour: str, name: str) -> Line2D:
    from matplotlib.lines import Line2D

    shown = f" {name}"  # matplotlib leaves out what begins with an underscore
    return Line2D([], [], linestyle="", marker="o", markersize=7, color=colour, label=shown)


def _png(canvas: FigureCanvasAgg) -> bytes:
    stream = io.BytesIO()
    with _any_script():
        canvas.print_png(stream)
    return stream.getvalue()


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """A run may be named in a script that the font lacks: boxes will do, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
