"""A picture of a sensitivity ranking: a bar for each layer, the worst first."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from effkeras.errors import EffkerasError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from quantize.precision.sensitivity import LayerSensitivity, Sensitivity

MOST = 30
_INK, _FAINT, _BAR, _LIGHT_BAR = "#1f2933", "#6b7580", "#2a6fbb", "#b9cfe6"


def chart(found: Sensitivity, most: int = MOST) -> bytes:
    """A PNG with the `most` sensitive layers.

    Dark bars are layers with weights. Raises EffkerasError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EffkerasError("the picture needs matplotlib; pip install 'effkeras[report]'") from error
    shown = found.layers[:most]
    figure = Figure(figsize=(8.4, 1.5 + 0.25 * len(shown)), dpi=144, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw(axes, shown)
    axes.set_title(
        f"{found.model}: one layer at a time as {found.recipe}", loc="left", color=_INK, fontsize=12
    )
    figure.text(0.995, 0.004, "light: layers without weights", ha="right", color=_FAINT, fontsize=8)
    axes.set_xlabel(
        f"error / standard deviation of the outputs, {found.pictures} pictures  "
        f"(all layers together: {found.error:.3g})",
        color=_FAINT,
        fontsize=9,
    )
    stream = io.BytesIO()
    canvas.print_png(stream)
    return stream.getvalue()


def _draw(axes: Axes, shown: tuple[LayerSensitivity, ...]) -> None:
    errors = [one.error for one in shown]
    colours = [_BAR if one.macs else _LIGHT_BAR for one in shown]
    bars = axes.barh(range(len(shown)), errors, color=colours, height=0.72)
    axes.bar_label(bars, [_label(one) for one in shown], padding=4, fontsize=8, color=_FAINT)
    axes.set_yticks(range(len(shown)), [one.name for one in shown], fontsize=8.5, color=_INK)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, max([*errors, 1e-12]) * 1.18)
    axes.tick_params(colors=_FAINT, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _label(one: LayerSensitivity) -> str:
    return f"{one.error:.3g}" + ("" if one.drop is None else f"   drop {one.drop:.3f}")
