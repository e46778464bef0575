"""Places labels beside the points of a chart so that they overlap neither each other nor the points.

adjustText 1.4.0 with its defaults was tried on one crowded chart (24 points of 3 runs, int8 variants close
together) and not adopted: labels of the middle run overlapped, where this module merges the labels of near
points. On that chart this module moves some labels over the axis' numbers, which adjustText did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.text import Annotation

_TOGETHER = 10.0  # points (1/72 inch): closer marks share one label
_STEPS = 60
_LINE = 1.5  # half of a line's width, with its margin
_CLEARANCE = 5.0  # radius of a point's marker, with its margin


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in data coordinates and its label."""

    x: float
    y: float
    text: str
    colour: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line that no label should cover, from one point to another in data coordinates."""

    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)

    def shared(self, other: _Box) -> float:
        """The area of the intersection."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0) * max(height, 0)


@dataclass(frozen=True, slots=True)
class _Place:
    """The position of a label: its offset from the point in 1/72 inch, and its alignment."""

    right: float
    up: float
    horizontal: str
    vertical: str

    @property
    def is_far(self) -> bool:
        return abs(self.right) + abs(self.up) > 20


def _places() -> Iterator[_Place]:
    for reach in (9.0, 20.0, 32.0):
        slant = reach * 0.7
        yield _Place(reach, 0, "left", "center")
        yield _Place(0, reach, "center", "bottom")
        yield _Place(0, -reach, "center", "top")
        for right, side in ((slant, "left"), (-slant, "right")):
            yield _Place(right, slant, side, "bottom")
            yield _Place(right, -slant, side, "top")
        yield _Place(-reach, 0, "right", "center")


def label(axes: Axes, marks: Sequence[Mark], lines: Sequence[Line], renderer: RendererAgg) -> None:
    """Writes every mark's label at the nearest free position; marks close together share one label."""
    taken = _boxes(axes, [(mark.x, mark.y) for mark in marks], _CLEARANCE)
    for line in lines:
        taken += _boxes(axes, _along(line), _LINE)
    for group in _groups(axes, marks):
        taken.append(_write(axes, group, taken, renderer))


def _write(axes: Axes, group: Sequence[Mark], taken: Sequence[_Box], renderer: RendererAgg) -> _Box:
    from matplotlib.text import Text

    text = ", ".join(dict.fromkeys(mark.text for mark in group))
    tried: list[tuple[float, Annotation, _Box]] = []
    for place in _places():
        note = _annotate(axes, group[-1], text, place)
        note.update_positions(renderer)
        box = _Box(*Text.get_window_extent(note, renderer).extents)  # Annotation's extent includes its line
        tried.append((_overlap(axes, box, taken), note, box))
        if tried[-1][0] == 0:
            break
    _, best, box = min(tried, key=lambda one: one[0])
    for _, note, _ in tried:
        if note is not best:
            note.remove()
    return box


def _annotate(axes: Axes, mark: Mark, text: str, place: _Place) -> Annotation:
    line = {"arrowstyle": "-", "color": mark.colour, "linewidth": 0.8, "shrinkB": _CLEARANCE}
    return axes.annotate(
        text,
        (mark.x, mark.y),
        xytext=(place.right, place.up),
        textcoords="offset points",
        ha=place.horizontal,
        va=place.vertical,
        fontsize=10.5,
        color=mark.colour,
        arrowprops=line if place.is_far else None,
        parse_math=False,
        in_layout=False,
    )


def _overlap(axes: Axes, box: _Box, taken: Sequence[_Box]) -> float:
    """The area of a label, in pixels, that would overlap others or lie outside the axes."""
    outside = box.area - box.shared(_Box(*axes.bbox.extents))
    return outside + sum(box.shared(other) for other in taken)


def _groups(axes: Axes, marks: Sequence[Mark]) -> list[list[Mark]]:
    """Groups of marks of one colour that lie close together."""
    groups: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda one: (one.colour, one.x)):
        near = next((group for group in groups if _distance(axes, group[-1], mark) < _TOGETHER), None)
        if near and near[-1].colour == mark.colour:
            near.append(mark)
        else:
            groups.append([mark])
    return groups


def _distance(axes: Axes, one: Mark, other: Mark) -> float:
    (x0, y0), (x1, y1) = axes.transData.transform([(one.x, one.y), (other.x, other.y)])
    return float(((x0 - x1) ** 2 + (y0 - y1) ** 2) ** 0.5) * 72 / axes.figure.dpi


def _along(line: Line) -> list[tuple[float, float]]:
    """Points along a line, too close together for a label to fit between them."""
    (x0, y0), (x1, y1) = line.start, line.end
    shares = [step / _STEPS for step in range(_STEPS + 1)]
    return [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in shares]


def _boxes(axes: Axes, points: Sequence[tuple[float, float]], radius: float) -> list[_Box]:
    room = radius * axes.figure.dpi / 72
    return [_Box(x - room, y - room, x + room, y + room) for x, y in axes.transData.transform(points)]
