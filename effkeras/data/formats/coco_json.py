"""Decodes COCO's JSON files: the entries that our reader uses, as they stand, and their ids as numbers.

msgspec decodes these fields alone. json, which builds every value of the file, needs five times as long and
three times the memory for the labels of 118,000 images; it decodes the files that msgspec refuses: those with
entries that are not objects, and those that are not JSON, for the reason.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from effkeras.data.records import Mask
from effkeras.data.segmentations import parse_segmentation
from effkeras.data.split_builder import LARGEST_SIDE, Corners
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError, first_line

FORMAT = "https://cocodataset.org/#format-data"
_LISTS = ("images", "annotations", "categories")
_MOST = 2**63  # ids are stored as int64


class Entry(msgspec.Struct, gc=False):
    """An object of the file. A field is any value of JSON, None where it is missing."""

    id: Any = None


class ImageEntry(Entry, gc=False):
    """An image."""

    file_name: Any = None
    height: Any = None
    width: Any = None

    def name(self) -> str:
        """The file name. Raises EffkerasError when it is missing or not valid Unicode."""
        if not isinstance(self.file_name, str) or not self.file_name:
            raise EffkerasError("it has no 'file_name'")
        if any("\ud800" <= char <= "\udfff" for char in self.file_name):
            raise EffkerasError(f"its file_name {self.file_name!r} is not valid Unicode")
        return self.file_name

    def size(self) -> tuple[int, int] | None:
        """The height and width; None where both are missing or 0, to read them from the image.

        Raises EffkerasError for values that are not numbers of pixels.
        """
        if self.height in (None, 0) and self.width in (None, 0):
            return None
        sides = whole(self.height), whole(self.width)
        height, width = (side if side is not None else 0 for side in sides)
        if not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
            shown = f"{reprlib.repr(self.height)} and {reprlib.repr(self.width)}"
            raise EffkerasError(f"its 'height' and 'width' are {shown}, not numbers of pixels")
        return height, width


class AnnotationEntry(Entry, gc=False):
    """An annotation, without its mask."""

    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None

    def corners(self) -> Corners:
        """The box; values that are not numbers become NaN. Raises EffkerasError when it has not 4 values."""
        if not isinstance(self.bbox, list) or len(self.bbox) != 4:
            raise EffkerasError(f"its bbox is {reprlib.repr(self.bbox)}, not x, y, width, height")
        left, top, width, height = self.bbox
        if not type(left) is type(top) is type(width) is type(height) is float:
            left, top, width, height = map(_number, self.bbox)
        return top, left, top + height, left + width

    def stated_area(self) -> float | None:
        """The area; None where it is missing or 0. Raises EffkerasError for other values."""
        if self.area is None or self.area == 0:
            return None
        area = self.area if type(self.area) is float else _number(self.area)
        if not 0 < area <= LARGEST_SIDE**2:
            shown = reprlib.repr(self.area or math.nan)  # "" stands for NaN, see `_without_nan`
            raise EffkerasError(f"its area is {shown}, not a positive number of pixels")
        return area

    def mask(self, size: tuple[int, int]) -> Mask | None:
        """The mask in an image of `size` (height, width), where it was decoded."""
        return None


class MaskedEntry(AnnotationEntry, gc=False):
    """An annotation with its mask, as json gives it."""

    segmentation: Any = None

    def mask(self, size: tuple[int, int]) -> Mask | None:
        """The mask in an image of `size` (height, width). Raises EffkerasError when it is bad."""
        return parse_segmentation(self.segmentation, size)


class RawMaskedEntry(AnnotationEntry, gc=False):
    """Like `MaskedEntry`, with the mask still as JSON: as lists of numbers it takes most of the memory."""

    segmentation: msgspec.Raw = msgspec.Raw(b"null")

    def mask(self, size: tuple[int, int]) -> Mask | None:
        """The mask in an image of `size` (height, width). Raises EffkerasError when it is bad."""
        try:
            value = msgspec.json.decode(self.segmentation)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EffkerasError(f"its segmentation is not valid JSON ({first_line(error)})") from error
        return parse_segmentation(value, size)


class CategoryEntry(Entry, gc=False):
    """A class."""

    name: Any = None
    supercategory: Any = None


OneEntry = TypeVar("OneEntry", bound=AnnotationEntry)


class CocoFile(msgspec.Struct, Generic[OneEntry]):
    """The three lists of a file. Entries that are not objects are as json gives them."""

    images: list[ImageEntry]
    annotations: list[OneEntry]
    categories: list[CategoryEntry]


def load(path: Path, *, masks: bool) -> CocoFile[Any]:
    """Decodes a label file, with or without the masks of its annotations.

    Raises EffkerasError when it cannot be read, is not valid JSON, or one of the three lists is missing or
    empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}; check the file") from error
    found = _by_msgspec(content, masks=masks)
    if found is None:
        numbered = _without_nan(content)
        found = None if numbered is None else _by_msgspec(numbered, masks=masks)
    if found is None:
        found = _by_json(path, content, masks=masks)
    for key in _LISTS:
        if not getattr(found, key):
            raise EffkerasError(f"{path}: there are no {key} at all; write the labels again")
    return found


def _by_msgspec(content: bytes | bytearray, *, masks: bool) -> CocoFile[Any] | None:
    """The file; None if msgspec refuses it."""
    wanted = CocoFile[RawMaskedEntry] if masks else CocoFile[AnnotationEntry]
    try:
        found: CocoFile[Any] = msgspec.json.decode(content, type=wanted)
        return found
    except (msgspec.MsgspecError, RecursionError):
        return None


def _without_nan(content: bytes) -> bytearray | None:
    """A copy without a byte order mark, NaN and Infinity, which JSON lacks; None if there are none.

    Empty texts stand for them: no number either.
    """
    spans = [found.span(1) for found in _TEXT_OR_NAN.finditer(content) if found[1]]
    if not spans and not content.startswith(_MARK):
        return None
    copy = bytearray(content)
    for start, end in spans:
        copy[start:end] = b'""'.ljust(end - start)
    if copy.startswith(_MARK):
        copy[: len(_MARK)] = b" " * len(_MARK)
    return copy


_MARK = b"\xef\xbb\xbf"
_TEXT_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*"?|(-?Infinity|NaN)', re.DOTALL)


def whole(value: object) -> int | None:
    """The value if it is a whole number (some tools write 7.0), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


class Ids:
    """Numbers for the ids in a list of entries.

    Whole numbers stay as they are, and a text such as "7" is one. Other texts get the smallest free numbers
    in the order of the file, which is noted.

    Args:
        path: the label file, for errors.
        what: the noun for an entry, such as "image".
        entries: the list.

    Raises:
        EffkerasError: an entry has no id, one beyond 63 bits, or that of another entry.
    """

    def __init__(self, path: Path, what: str, entries: Iterable[object]) -> None:
        self._numbers: dict[int | str, int] = {}
        for position, entry in enumerate(entries):
            given = entry.id if isinstance(entry, Entry) else None
            key = _key(given)
            if key is None:
                found = "no whole 'id'" if given is None else f"the id {reprlib.repr(given)}"
                raise EffkerasError(
                    f"{path}: {what} at position {position} has {found}; give it a whole number below 2**63"
                )
            if key in self._numbers:
                raise EffkerasError(f"{path}: {what} id {key} occurs twice; give each {what} its own id")
            self._numbers[key] = key if isinstance(key, int) else 0
        self._number_texts(path, what)

    def number(self, given: object) -> int | None:
        """The number of the entry with that id; None when there is none."""
        key = given if type(given) is int else _key(given)
        return None if key is None else self._numbers.get(key)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers.values())

    def _number_texts(self, path: Path, what: str) -> None:
        texts = [key for key in self._numbers if isinstance(key, str)]
        if not texts:
            return
        taken = {key for key in self._numbers if isinstance(key, int)}
        free = (number for number in itertools.count(1) if number not in taken)
        self._numbers.update(zip(texts, free, strict=False))
        note_once(
            f"{path}: {what} ids are texts, such as {texts[0][:40]!r}; they are numbered in their order"
        )


def _key(given: object) -> int | str | None:
    """What identifies an id: a whole number, or a text that is none; None for other values."""
    if isinstance(given, str):
        text = given.strip()
        is_number = len(text) < 20 and text.removeprefix("-").isdecimal() and str(int(text)) == text
        if not is_number:
            return text or None
        given = int(text)
    number = whole(given)
    return number if number is not None and -_MOST <= number < _MOST else None


def _number(value: object) -> float:
    """The value as a float; NaN if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _by_json(path: Path, content: bytes, *, masks: bool) -> CocoFile[Any]:
    """Like msgspec's decoding, by json."""

    def without_mask(entry: dict[str, Any]) -> dict[str, Any]:
        entry.pop("segmentation", None)
        return entry

    try:
        found = json.loads(content, object_hook=None if masks else without_mask)
    except (ValueError, RecursionError) as error:
        raise EffkerasError(
            f"{path}: not valid JSON ({first_line(error)}); write or download it again"
        ) from error
    if not isinstance(found, dict):
        raise EffkerasError(f"{path}: holds a {type(found).__name__}, not COCO's object; see {FORMAT}")
    for key in _LISTS:
        if not isinstance(found.get(key), list):
            raise EffkerasError(f"{path}: {key!r} is missing or not a list; see {FORMAT}")
    _convert(found["images"], ImageEntry)
    _convert(found["annotations"], MaskedEntry if masks else AnnotationEntry)
    _convert(found["categories"], CategoryEntry)
    return CocoFile(*(found[key] for key in _LISTS))


def _convert(entries: list[Any], kind: type[Entry]) -> None:
    """Replaces each object by an entry, in place, so that both need not be in memory."""
    fields = kind.__struct_fields__
    for position, entry in enumerate(entries):
        if isinstance(entry, dict):
            entries[position] = kind(**{key: entry.get(key) for key in fields})
