"""Decodes JPEG files whose end is missing, if little of the image is lost.

Pillow reads such files only by a switch for the whole process, and then however little is left of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

_END = b"\xff\xd9"
_MISSING = 128  # grey, with which libjpeg fills rows that are not there
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_INSIDE_SCAN = frozenset({0x00, 0xFF, *range(0xD0, 0xD8)})  # stuffed bytes, fill bytes and restarts
_FREQUENCIES = frozenset(range(64))


def decode_cut_jpeg(content: bytes) -> Image.Image | None:
    """The image of a JPEG file that ends early, grey or less detailed where data are missing.

    None when half of the rows or more are missing; of a progressive file, when the first component's
    frequencies are not all there for over half of the rows. Raises what Pillow raises for a damaged file.
    """
    image = _opened(content)
    shown = _share_of_rows(content)
    if not image.info.get("progressive"):
        return image if shown > 0.5 else None
    scans = list(_scans(content))
    is_whole = _covered(scans[:-1]) or (shown > 0.5 and _covered(scans))
    return image if is_whole else None


def _opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content + _END), formats=["JPEG", "MPO"])
    image.load()
    return image


def _share_of_rows(content: bytes) -> float:
    """How far down the last scan reaches, as a share of the rows.

    The last bytes decide the last rows that are there: these change when the bytes are taken away.
    """
    pixels = np.asarray(_opened(content))
    try:
        shorter = np.asarray(_opened(content[: -max(64, len(content) // 50)]))
    except OSError:  # the image takes less than these bytes
        shorter = np.full_like(pixels, _MISSING)
    changed = (pixels != shorter).reshape(len(pixels), -1).any(axis=1)
    rows = np.flatnonzero(changed)
    return float(rows[-1] + 1) / len(pixels) if len(rows) else 1.0


class _Scan(NamedTuple):
    """A scan of a JPEG file: the numbers of its components, and its frequencies, first to last.

    `is_refinement` tells that it only adds bits to the values of an earlier scan.
    """

    components: tuple[int, ...]
    first: int
    last: int
    is_refinement: bool


def _covered(scans: list[_Scan]) -> bool:
    """Whether scans hold all frequencies of the first component, be it with few bits."""
    if not scans:
        return False
    main = scans[0].components[0]
    found: set[int] = set()
    for one in scans:
        if main in one.components and not one.is_refinement:
            found |= set(range(one.first, one.last + 1))
    return found >= _FREQUENCIES


def _scans(content: bytes) -> Iterator[_Scan]:
    """The scans of a JPEG file, as their headers state them (ITU-T T.81, B.2.3)."""
    place = 2
    while place + 4 <= len(content):
        marker = content[place + 1]
        if content[place] != 0xFF or marker == 0xFF or marker in _WITHOUT_LENGTH:
            place += 1
            continue
        length = int.from_bytes(content[place + 2 : place + 4])
        header = content[place + 4 : place + 2 + length]
        place += 2 + max(length, 2)
        if marker == _START_OF_SCAN and header and len(header) == 4 + 2 * header[0]:
            *listed, first, last, bits = header[1:]
            yield _Scan(tuple(listed[::2]), first, last, is_refinement=bits >> 4 > 0)
            place = _after_scan(content, place)


def _after_scan(content: bytes, place: int) -> int:
    while 0 <= (place := content.find(b"\xff", place)) < len(content) - 1:
        if content[place + 1] not in _INSIDE_SCAN:
            return place
        place += 1
    return len(content)
