"""Contact sheets: many small images with their boxes, masks and class names on one page."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from effkeras.inference.task import PALETTE, ink_on
from effkeras.support.drawing import LIGHT, shortened

_MARGIN, _GAP, _CAPTION, _CHIP = 32, 20, 46, 26
_SCALE = 2  # tiles are drawn in twice their size and reduced, for smooth lines
_TITLE_SIZE, _LEGEND_SIZE, _CAPTION_SIZE, _LABEL_SIZE = 26, 17, 14, 13
_MOST_IN_LEGEND = 40
_MASK_OPACITY = 0.45
_GOLDEN = 0.618034  # the part of the colour circle between the hues of further classes
_IGNORED = "#9AA3AD"


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """One image of a sheet.

    `pixels` is uint8 (h, w, 3); `boxes` float32 (n, 4): ymin, xmin, ymax, xmax in its pixels; `classes` int
    (n,); `ignored` bool (n,): crowds, drawn dashed. `masks` are (class, bool (h, w)). `title` and `line` are
    the two lines below the image. The legend does not count the boxes of a copy of another tile.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    title: str
    line: str = ""
    masks: Sequence[tuple[int, np.ndarray]] = ()
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page: its title, the class names in the order of the class indices, and its layout.

    `dashed` says what dashed boxes are.
    """

    title: str
    labels: Sequence[str]
    columns: int = 4
    width: int = 1600
    dashed: str = "ignored by the loss"

    @property
    def cell(self) -> int:
        """The width of a tile in pixels."""
        return (self.width - 2 * _MARGIN - (self.columns - 1) * _GAP) // self.columns


def colour_of(label: int) -> str:
    """The colour of a class: Okabe and Ito's, and then hues that lie far apart."""
    own = PALETTE[:-1]  # without white, which disappears on paper
    if label < len(own):
        return own[label]
    turn = label - len(own)
    red, green, blue = colorsys.hsv_to_rgb(turn * _GOLDEN % 1, 0.55 + 0.4 * (turn % 2), 0.95)
    return f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}"


def contact_sheet(tiles: Sequence[Tile], sheet: Sheet) -> Image.Image:
    """Draws the page: title, legend, and the tiles row by row."""
    rows = [tiles[start : start + sheet.columns] for start in range(0, len(tiles), sheet.columns)]
    heights = [max(_shown_size(tile, sheet.cell)[0] for tile in row) for row in rows]
    legend = _legend_rows(tiles, sheet)
    top = _MARGIN + _TITLE_SIZE + 18 + len(legend) * _CHIP + 14
    height = top + sum(heights) + len(rows) * (_CAPTION + _GAP) + _MARGIN - _GAP
    page = Image.new("RGB", (sheet.width, height), LIGHT.paper)
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, _MARGIN - 6), sheet.title, fill=LIGHT.ink, font=_font(_TITLE_SIZE))
    _draw_legend(pen, legend)
    for row, row_height in zip(rows, heights, strict=True):
        for place, tile in enumerate(row):
            left = _MARGIN + place * (sheet.cell + _GAP)
            page.paste(_drawn(tile, sheet), (left, top))
            _caption(pen, (left, top + _shown_size(tile, sheet.cell)[0] + 5), tile, sheet.cell)
        top += row_height + _CAPTION + _GAP
    return page


def _shown_size(tile: Tile, cell: int) -> tuple[int, int]:
    """The height and width of a tile: as wide as its cell, and at most 1.25 times as high as wide."""
    height, width = tile.pixels.shape[:2]
    factor = min(cell / width, 1.25 * cell / height)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _drawn(tile: Tile, sheet: Sheet) -> Image.Image:
    """The tile's image with masks, boxes and class names."""
    height, width = _shown_size(tile, sheet.cell)
    image = Image.fromarray(_tinted(tile))
    large = image.resize((width * _SCALE, height * _SCALE), Image.Resampling.LANCZOS)
    factors = np.tile([height / tile.pixels.shape[0], width / tile.pixels.shape[1]], 2)
    boxes = tile.boxes * factors
    pen = ImageDraw.Draw(large)
    # Large boxes first, so that small ones stay visible.
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    for place in order:
        colour = _IGNORED if tile.ignored[place] else colour_of(int(tile.classes[place]))
        _draw_box(pen, boxes[place] * _SCALE, colour, dashed=bool(tile.ignored[place]))
    small = large.resize((width, height), Image.Resampling.BOX)
    named = [place for place in order[::-1] if not tile.ignored[place]]
    _write_labels(ImageDraw.Draw(small), boxes[named], tile.classes[named], sheet.labels, small.size)
    return small


def _tinted(tile: Tile) -> np.ndarray:
    pixels = tile.pixels.astype(np.float32)
    for label, inside in tile.masks:
        colour = np.array(ImageColor.getrgb(colour_of(label)), np.float32)
        pixels[inside] += (colour - pixels[inside]) * _MASK_OPACITY
    return np.rint(pixels).astype(np.uint8)


def _draw_box(pen: ImageDraw.ImageDraw, box: np.ndarray, colour: str, *, dashed: bool) -> None:
    """A frame in its colour between two dark lines, so that it shows on any image."""
    ymin, xmin, ymax, xmax = box.tolist()
    corners = (xmin, ymin, max(xmax, xmin + 2), max(ymax, ymin + 2))
    if not dashed:
        pen.rectangle(corners, outline="#000000", width=6)
        pen.rectangle(
            (corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1), outline=colour, width=4
        )
        return
    for start, end in _dashes(corners[0], corners[2]):
        for y in (corners[1], corners[3]):
            pen.line((start, y, end, y), fill=colour, width=4)
    for start, end in _dashes(corners[1], corners[3]):
        for x in (corners[0], corners[2]):
            pen.line((x, start, x, end), fill=colour, width=4)


def _dashes(start: float, end: float, length: float = 12) -> list[tuple[float, float]]:
    return [(at, min(at + length, end)) for at in np.arange(start, end, 2 * length).tolist()]


def _write_labels(
    pen: ImageDraw.ImageDraw,
    boxes: np.ndarray,
    classes: np.ndarray,
    labels: Sequence[str],
    size: tuple[int, int],
) -> None:
    """Names at the boxes, where they fit: no name covers another one; the legend explains the colours."""
    font = _font(_LABEL_SIZE)
    taken: list[tuple[float, float, float, float]] = []
    for box, label in zip(boxes.tolist(), classes.tolist(), strict=True):
        text = shortened(labels[label], 24)
        width, height = pen.textlength(text, font=font) + 8, _LABEL_SIZE + 4
        ymin, xmin, ymax, xmax = box
        spots = (
            (xmin, ymin - height),
            (xmin, ymin),
            (xmin, ymax),
            (xmax - width, ymin),
            (xmin, ymax - height),
        )
        for left, top in spots:
            spot = (left, top, left + width, top + height)
            inside = left >= 0 and top >= 0 and spot[2] <= size[0] and spot[3] <= size[1]
            if inside and not any(_overlap(spot, other) for other in taken):
                taken.append(spot)
                pen.rectangle(spot, fill=colour_of(label))
                pen.text((left + 4, top + 1), text, fill=ink_on(colour_of(label)), font=font)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _caption(pen: ImageDraw.ImageDraw, corner: tuple[int, int], tile: Tile, width: int) -> None:
    font = _font(_CAPTION_SIZE)
    pen.text(corner, _fitting(pen, tile.title, font, width), fill=LIGHT.ink, font=font)
    below = (corner[0], corner[1] + _CAPTION_SIZE + 5)
    pen.text(below, _fitting(pen, tile.line, font, width), fill=LIGHT.faint, font=font)


def _fitting(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, shortened at its beginning, where paths differ least, to fit."""
    shown = text
    while pen.textlength(shown, font=font) > width and len(shown) > 4:
        shown = "..." + shown[4:].lstrip(".")
    return shown


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the legend: a coloured square and a text, at `left`."""

    colour: str
    text: str
    left: float


def _legend_rows(tiles: Sequence[Tile], sheet: Sheet) -> list[list[_Entry]]:
    """The classes on this sheet with their number of boxes, in rows of the page's width."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    font = _font(_LEGEND_SIZE)
    counts: Counter[int] = Counter()
    for tile in tiles:
        counts.update({} if tile.is_copy else tile.classes[~tile.ignored].tolist())
        counts.update({label: 0 for label, _ in tile.masks})
    shown = sorted(label for label, _ in counts.most_common(_MOST_IN_LEGEND))
    numbers = {label: f" ({counts[label]})" if counts[label] else "" for label in shown}
    texts = [(colour_of(label), shortened(sheet.labels[label], 30) + numbers[label]) for label in shown]
    if len(counts) > len(shown):
        texts.append((LIGHT.paper, f"and {len(counts) - len(shown)} more classes"))
    if any(tile.ignored.any() for tile in tiles):
        texts.append((_IGNORED, f"dashed: {sheet.dashed}"))
    rows: list[list[_Entry]] = [[]]
    left: float = _MARGIN
    for colour, text in texts:
        width = 24 + pen.textlength(text, font=font) + 24
        if rows[-1] and left + width > sheet.width - _MARGIN:
            rows.append([])
            left = _MARGIN
        rows[-1].append(_Entry(colour, text, left))
        left += width
    return [row for row in rows if row]


def _draw_legend(pen: ImageDraw.ImageDraw, rows: Sequence[Sequence[_Entry]]) -> None:
    top = _MARGIN + _TITLE_SIZE + 14
    for number, row in enumerate(rows):
        for entry in row:
            y = top + number * _CHIP
            pen.rectangle((entry.left, y + 2, entry.left + 15, y + 17), fill=entry.colour)
            pen.text((entry.left + 24, y), entry.text, fill=LIGHT.ink, font=_font(_LEGEND_SIZE))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)  # type: ignore[return-value]
