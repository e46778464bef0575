"""Charts with matplotlib: a theme for light pages, one for dark pages, and shared axes and legends.

The functions use matplotlib's objects, not pyplot, so a chart changes no global setting.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

WIDTH, DPI = 5.8, 200
# In characters: a legend's line, its longest entry, and the space of a marker with its margins.
_LINE, _LONGEST, _MARKER = 78, 60, 6


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a chart; runs take the colours of `palette` in order."""

    paper: str
    ink: str
    faint: str
    grid: str
    palette: tuple[str, ...]


# Okabe and Ito's colours, distinct for colour-blind readers; each theme has those that contrast with it.
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


def new_canvas(height: float, theme: Theme) -> FigureCanvasAgg:
    """An empty figure, `height` in inches. Raises EffkerasError without matplotlib."""
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


def style_axes(axes: Axes, title: str, theme: Theme) -> None:
    """Sets the colours, a grid, and a title on the left."""
    axes.set_facecolor(theme.paper)
    axes.set_title(title, loc="left", fontsize=12, color=theme.ink, pad=10, parse_math=False)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.faint)
    axes.tick_params(colors=theme.faint, length=0, labelsize=10)
    axes.ticklabel_format(useOffset=False)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set(color=theme.ink, fontsize=11, parse_math=False)


def add_legend(canvas: FigureCanvasAgg, entries: Sequence[Line2D], theme: Theme) -> None:
    """Adds a legend below the axes."""
    legend = canvas.figure.legend(
        handles=entries,
        loc="outside lower left",
        ncols=_columns([str(entry.get_label()) for entry in entries]),
        frameon=False,
        fontsize=9.5,
        labelcolor=theme.faint,
        handletextpad=0.4,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def legend_dot(colour: str, name: str) -> Line2D:
    """A legend entry: a dot and a name."""
    from matplotlib.lines import Line2D

    shown = f" {shortened(name)}"  # matplotlib omits labels that begin with an underscore
    return Line2D([], [], linestyle="", marker="o", markersize=7, color=colour, label=shown)


def _columns(names: Sequence[str]) -> int:
    """The number of legend entries that fit side by side, at most four."""
    widths = [len(name) + _MARKER for name in names]
    if len(names) <= 4 and sum(widths) <= _LINE:
        return len(names)
    return max(1, min(4, _LINE // max(widths)))


def shortened(name: str, most: int = _LONGEST) -> str:
    """The name, cut to at most `most` characters."""
    return name if len(name) <= most else f"{name[: most - 3]}..."


def png_of(canvas: FigureCanvasAgg) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    with any_script():
        canvas.print_png(stream)
    return stream.getvalue()


@contextlib.contextmanager
def any_script() -> Iterator[None]:
    """Silences the warnings for characters that the font lacks; matplotlib draws them as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
