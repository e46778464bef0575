"""Charts of the classes: precision against recall, F1 against the score, and the confusion matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.inference.task import ink_on
from effkeras.support.drawing import LIGHT, Theme, add_legend, new_canvas, png_of, shortened, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.lines import Line2D

MOST_CLASSES = 25  # of a confusion matrix that can be read
_NAMED = 10  # curves that a legend names
_STYLES = ("-", "--", ":")
_ALL = "all classes"

Curves = Mapping[str, Mapping[str, Sequence[float]]]


def precision_recall(curves: Curves, score: float | None, theme: Theme = LIGHT) -> bytes:
    """A PNG with precision against recall above F1 against the score, a curve for each class and for all.

    Args:
        curves: `score`, `precision`, `recall` and `f1` of each class; those of all classes under "".
        score: the threshold, a line in the second chart.
        theme: the colours.
    """
    canvas = new_canvas(5.6, theme)
    above, below = canvas.figure.subplots(2, 1)
    style_axes(above, "Precision and recall, IoU 0.5", theme)
    style_axes(below, "F1 by score", theme)
    lines = list(_lines(curves, theme))
    for (curve, style), axes in itertools.product(lines, (above, below)):
        names = ("recall", "precision") if axes is above else ("score", "f1")
        axes.plot(*(curve[name] for name in names), **style)
    for axes, across, up in ((above, "recall", "precision"), (below, "score", "F1")):
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel=across, ylabel=up)
    if score is not None:
        below.axvline(score, color=theme.faint, linewidth=1.2, linestyle=(0, (4, 3)))
        below.text(score, 0.04, f" {score:.3g}", color=theme.faint, fontsize=10)
    canvas.figure.align_ylabels()
    add_legend(canvas, _legend(curves, theme), theme)
    return png_of(canvas)


def _lines(curves: Curves, theme: Theme) -> Iterator[tuple[Mapping[str, Sequence[float]], dict[str, Any]]]:
    """Each curve with its style; all classes together last, on top."""
    classes = [name for name in curves if name]
    for name, style in zip(classes, _styles(len(classes), theme), strict=True):
        yield curves[name], style
    if "" in curves:
        yield curves[""], {"color": theme.ink, "linewidth": 2.4}


def _styles(count: int, theme: Theme) -> list[dict[str, Any]]:
    if count > _NAMED:
        return [{"color": theme.faint, "linewidth": 0.8, "alpha": 0.5}] * count
    pairs = itertools.product(_STYLES, theme.palette)
    return [
        {"color": colour, "linewidth": 1.6, "linestyle": style}
        for style, colour in itertools.islice(pairs, count)
    ]


def _legend(curves: Curves, theme: Theme) -> list[Line2D]:
    from matplotlib.lines import Line2D

    classes = [name for name in curves if name]
    styles = _styles(len(classes), theme)
    named = list(zip(classes, styles, strict=True)) if len(classes) <= _NAMED else [("each class", styles[0])]
    named.append((_ALL, {"color": theme.ink, "linewidth": 2.4}))
    return [Line2D([], [], label=f" {shortened(name, 24)}", **style) for name, style in named]


def confusion_matrix(details: Mapping[str, Any], theme: Theme = LIGHT) -> bytes:
    """A PNG of the confusion matrix: shares of each true class, with the counts written into the cells.

    `details` has the class names in `labels`, and in `confusion` the counts by true class and class found.
    """
    from matplotlib.colors import LinearSegmentedColormap

    labels, counts = details["labels"], np.array(details["confusion"], float)
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    canvas = new_canvas(max(3.4, min(7.5, 1.6 + 0.42 * len(labels))), theme)
    axes = canvas.figure.subplots()
    style_axes(axes, "Confusion matrix", theme)
    colours = LinearSegmentedColormap.from_list("shares", [theme.paper, theme.palette[0]])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    names = [shortened(label, 14) for label in labels]
    places = range(len(labels))
    axes.set_xticks(places, names, rotation=90 if len(labels) > 6 else 0, parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    axes.set(xlabel="found", ylabel="true class")
    _write_counts(axes, counts, shares, colours)
    return png_of(canvas)


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray, colours: Colormap) -> None:
    from matplotlib.colors import to_hex

    size = 9 if len(counts) <= 12 else 6
    for row, column in zip(*np.nonzero(counts), strict=True):
        ink = ink_on(to_hex(colours(shares[row, column])))
        axes.text(column, row, f"{counts[row, column]:g}", ha="center", va="center", color=ink, fontsize=size)
