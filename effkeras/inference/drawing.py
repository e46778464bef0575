"""Draws predictions onto an image: masks, bounding boxes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

# Distinguishable with most kinds of colour vision (Okabe and Ito 2008).
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")
MASK_OPACITY = 0.6
_CORNER, _LINE = 4, 16


@dataclass(eq=False, slots=True)
class Drawing:
    """An image and the drawings on it: masks are always below bounding boxes.

    `pixels` is uint8 (h, w, 3). Coordinates of masks, boxes and text refer to its pixels.
    """

    pixels: np.ndarray
    _masks: list[tuple[np.ndarray, str]] = field(default_factory=list)
    _boxes: list[tuple[Sequence[float], str, str]] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)

    def add_mask(self, inside: np.ndarray, colour: int) -> None:
        """Tints the pixels of a mask, bool (h, w)."""
        self._masks.append((inside, PALETTE[colour % len(PALETTE)]))

    def add_box(self, box: Sequence[float], text: str, colour: int) -> None:
        """Adds a bounding box (ymin, xmin, ymax, xmax) with a label."""
        self._boxes.append((box, text, PALETTE[colour % len(PALETTE)]))

    def add_line(self, text: str) -> None:
        """Adds a line of text in the upper left corner."""
        self._lines.append(text)

    def render(self) -> np.ndarray:
        """The image with all drawings, uint8; a small one is enlarged to keep labels readable."""
        image = Image.fromarray(self._tinted())
        factor = max(1, round(384 / max(image.size)))
        size = image.width * factor, image.height * factor
        image = image.resize(size, Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(image)
        for box, text, colour in self._boxes:
            ymin, xmin, ymax, xmax = (value * factor for value in box)
            pen.rectangle((xmin, ymin, xmax, ymax), outline=colour, width=2)
            _write(pen, (xmin, ymin), text, colour)
        for number, text in enumerate(self._lines, start=1):
            _write(pen, (_CORNER, _LINE * number), text, PALETTE[0])
        return np.asarray(image)

    def _tinted(self) -> np.ndarray:
        pixels = np.asarray(self.pixels, np.float32)
        for inside, colour in self._masks:
            opacity = np.where(inside, MASK_OPACITY, 0)[..., None]
            pixels = pixels + (np.array(ImageColor.getrgb(colour)) - pixels) * opacity
        return np.rint(pixels).astype(np.uint8)


def _write(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: str) -> None:
    font = ImageFont.load_default(size=12)
    left, top = corner[0], max(0, corner[1] - 14)
    pen.rectangle(pen.textbbox((left + 2, top), text, font=font), fill=colour)
    pen.text((left + 2, top), text, fill="black", font=font)
