"""The shapes in a file of LabelMe, as annotations."""

from __future__ import annotations

import base64
import io
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from effkeras.data.records import Mask, Polygons, RunLengths
from effkeras.data.segmentations import encode_rle, extent, polygon_area
from effkeras.data.split_builder import Annotation
from effkeras.support.errors import EffkerasError, first_line

CROWD = "crowd"  # the flag of a shape that stands for a crowd
_POLYGONS = ("polygon", "oriented_rectangle", "rotation")  # the last in files of X-AnyLabeling
_SHAPES = (*_POLYGONS, "rectangle", "circle", "mask")
_NO_EXTENT = ("point", "points", "line", "linestrip")
_MOST_PIXELS = 1 << 27  # of an image with masks
_LARGEST = 1e9  # pixels


class _Shape(NamedTuple):
    """A shape: its place in the file, class name and group, its points (n, 2), and what covers its pixels."""

    number: int
    label: str
    group: str | None
    points: np.ndarray | None
    polygon: np.ndarray | None
    mask: Mask | None
    area: float | None
    crowd: bool
    problem: str


def stated_size(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """The stated height and width; None, to read it from the image, where they are missing."""
    height, width = (_number(content.get(key)) for key in ("imageHeight", "imageWidth"))
    if not (math.isfinite(height) and math.isfinite(width) and min(height, width) >= 1):
        return None
    return int(height), int(width)


def read_objects(content: Mapping[str, Any], *, masks: bool) -> list[Annotation]:
    """An annotation for each object: a shape, or all good shapes of one group and label.

    Raises EffkerasError when the file has no list of shapes.
    """
    entries = content.get("shapes")
    if not isinstance(entries, list):
        raise EffkerasError("'shapes' is missing or not a list")
    size = stated_size(content) if masks else None
    groups: dict[tuple[str, ...], list[_Shape]] = {}
    for number, entry in enumerate(entries, 1):
        one = _shape(number, entry, size)
        alone = one.group is None or bool(one.problem)
        key = (str(number),) if alone else (one.group or "", one.label)
        groups.setdefault(key, []).append(one)
    return [_annotation(parts, masks=masks) for parts in groups.values()]


def _shape(number: int, entry: Any, size: tuple[int, int] | None) -> _Shape:
    """Parses a shape; `size` is that of the image, to read masks."""
    bad = _Shape(number, "", None, None, None, None, None, False, "")
    if not isinstance(entry, dict):
        return bad._replace(problem=f"{reprlib.repr(entry)} is not an object")
    label = entry.get("label")
    if not isinstance(label, str) or not label.strip():
        return bad._replace(problem=f"its label is {reprlib.repr(label)}, not a class name")
    bad = bad._replace(label=label.strip())
    kind = entry.get("shape_type") or "polygon"  # as in labelme's first files
    try:
        points = _points(entry.get("points"))
    except EffkerasError as error:
        return bad._replace(problem=str(error))
    bad = bad._replace(points=points)
    if kind in _NO_EXTENT:
        return bad._replace(problem=f"it is a {kind}, which has no box; draw a rectangle or polygon")
    if kind not in _SHAPES:
        return bad._replace(problem=f"its shape_type is {reprlib.repr(kind)}; known: {', '.join(_SHAPES)}")
    group, flags = entry.get("group_id"), entry.get("flags")
    shape = bad._replace(
        group=None if group is None else str(group)[:100],
        crowd=isinstance(flags, dict) and flags.get(CROWD) is True,
    )
    try:
        return _covered(shape, str(kind), points, entry.get("mask") if size else None, size)
    except EffkerasError as error:
        return bad._replace(problem=str(error))


def _covered(
    shape: _Shape, kind: str, points: np.ndarray, mask: object, size: tuple[int, int] | None
) -> _Shape:
    """The shape with its extent, area and pixels."""
    if kind in _POLYGONS:
        if len(points) < 3:
            raise EffkerasError(f"its {kind} has {len(points)} points; it needs three or more")
        return shape._replace(polygon=points, area=polygon_area(points) or None)
    if len(points) < 2:
        raise EffkerasError(f"its {kind} has {len(points)} points; it needs two")
    points = points if kind == "rectangle" else points[:2]
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        around = np.stack([points[0] - radius, points[0] + radius])
        return shape._replace(points=around, area=math.pi * radius**2)
    if kind == "mask":
        pixels = _mask(mask, points[0], size) if size and isinstance(mask, str) else None
        return shape._replace(
            points=np.stack([points[0], points[1] + 1]), mask=pixels
        )  # ends in its last pixel
    return shape


def _points(value: Any) -> np.ndarray:
    is_list = isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 for one in value)
    if not is_list or not value:
        raise EffkerasError(f"its points are {reprlib.repr(value)}, not a list of x, y")
    points = np.array([[_number(part) for part in one] for one in value])
    if not np.isfinite(points).all() or np.abs(points).max() > _LARGEST:
        raise EffkerasError(f"its points {reprlib.repr(value)} have a value that is not a finite number")
    return points


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _mask(text: str, corner: np.ndarray, size: tuple[int, int]) -> RunLengths:
    """The pixels of labelme's `mask`: a PNG, base64, of the box that begins at `corner`."""
    if size[0] * size[1] > _MOST_PIXELS:
        raise EffkerasError(f"its image of {size[1]} x {size[0]} pixels is too large for masks")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            if image.height > size[0] + 1 or image.width > size[1] + 1:
                raise EffkerasError(f"its mask of {image.width} x {image.height} is larger than the image")
            part = np.asarray(image.convert("L")) > 0
    except EffkerasError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for damaged files
        raise EffkerasError(f"its mask is not a PNG file ({first_line(error)})") from error
    left, top = (int(max(0, value)) for value in corner.tolist())
    whole = np.zeros(size, bool)
    inside = whole[top : top + part.shape[0], left : left + part.shape[1]]
    inside[:] = part[: inside.shape[0], : inside.shape[1]]
    return RunLengths(np.array(encode_rle(whole)["counts"], np.int64))


def _annotation(parts: Sequence[_Shape], *, masks: bool) -> Annotation:
    first = parts[0]
    numbers = ", ".join(str(one.number) for one in parts)
    points = [one.points for one in parts if one.points is not None]
    areas = [one.area for one in parts]
    total = sum(area for area in areas if area is not None)
    return Annotation(
        what=f"shape{'s' if len(parts) > 1 else ''} {numbers} ({first.label[:40]!r})",
        label=first.label,
        corners=extent(np.concatenate(points)) if points else None,
        problem=first.problem,
        crowd=any(one.crowd for one in parts),
        area=total if None not in areas else None,
        mask=_whole_mask(parts) if masks else None,
    )


def _whole_mask(parts: Sequence[_Shape]) -> Mask | None:
    """The polygons of an object, or its one mask; None where a part has only a box."""
    if len(parts) == 1 and parts[0].mask is not None:
        return parts[0].mask
    polygons = [np.asarray(one.polygon, np.float32) for one in parts if one.polygon is not None]
    return Polygons(tuple(polygons)) if len(polygons) == len(parts) else None
