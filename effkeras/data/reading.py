"""Reads the images of records into a network's input; counts and names what is unusual or cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effkeras.data.images import Decoded, Remark, decode_image, tolerated
from effkeras.data.preprocess import Placed, place
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData
from effkeras.definitions.definition import InputSpec
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

_NAMED = 3  # file names in a note


class ImageReader:
    """Reads image files, and collects the remarks on them. Threads may share it."""

    def __init__(self) -> None:
        self._remarks: dict[Remark, dict[Path, None]] = {remark: {} for remark in Remark}

    def read(self, path: Path) -> np.ndarray:
        """See `read_image`."""
        decoded = decode_image(path)
        self.saw(path, decoded)
        return decoded.pixels

    def saw(self, path: Path, decoded: Decoded) -> None:
        """Takes in the remarks on an image that was read elsewhere."""
        for remark in decoded.remarks:
            self._remarks[remark][path] = None

    def note_remarks(self, total: int) -> None:
        """Notes once how many of `total` images each remark is about, and the first of them."""
        for remark, paths in self._remarks.items():
            if paths:
                note_once(f"{len(paths)} of {total} images {remark.value} (the first: {min(paths)})")

    def note_first(self) -> None:
        """Notes once that a remark occurs, and on which image first; for images that are read as needed."""
        for remark, paths in self._remarks.items():
            if paths:
                note_once(f"there are images that {remark.value} (the first: {next(iter(paths))})")


class RecordReader:
    """Reads images of records into a network's input, and compares their sizes with the labels' sizes.

    A record's boxes and masks are in pixels of the size that its labels state. An image file with the same
    aspect ratio but another size was scaled after labelling: its placement then maps the labels' pixels to
    the input, and `rescaled` records it by path.
    """

    def __init__(self, spec: InputSpec):
        self._spec = spec
        self._images = ImageReader()
        self.rescaled: dict[Path, str] = {}

    def read(self, record: DetectionRecord | ClassificationRecord) -> Placed:
        """The image in the network's input, with a placement for the size that the labels state.

        Raises EffkerasError when the image is unreadable, or its aspect ratio differs from the labels'.
        """
        placed = place(self._images.read(record.path), self._spec)
        decoded = placed.placement.size
        if isinstance(record, ClassificationRecord) or record.size == decoded:
            return placed
        says = f"{record.path} has {sides(decoded)} pixels and its labels say {sides(record.size)}"
        if not same_shape(decoded, record.size):
            why = shape_problem(decoded, record.size)
            raise EffkerasError(f"{says}: {why}, so its boxes cannot be placed; correct its labels")
        self.rescaled[record.path] = says
        return Placed(placed.content, placed.placement.stated_in(record.size))

    def note_first(self) -> None:
        """Like `note_remarks`, for images that are read as needed: without counts."""
        self._images.note_first()
        if self.rescaled:
            note_once(f"boxes are scaled with their images: {next(iter(self.rescaled.values()))}")

    def note_remarks(self, total: int) -> None:
        """Notes once how many of `total` images are unusual, and how many were scaled after labelling."""
        self._images.note_remarks(total)
        if self.rescaled:
            first = self.rescaled[min(self.rescaled)]
            note_once(f"scaled the boxes of {len(self.rescaled)} of {total} images; the first: {first}")


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (height, width) have the same aspect ratio, up to rounding to whole pixels."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(other)


def shape_problem(real: tuple[int, int], stated: tuple[int, int]) -> str:
    """Why labels do not fit an image of another aspect ratio than they state."""
    is_turned = same_shape(real[::-1], stated)
    return "they are for the image before its EXIF turn" if is_turned else "the shapes differ"


def sides(size: tuple[int, int]) -> str:
    """A (height, width) as text: width x height."""
    return f"{size[1]} x {size[0]}"


class UnusableImages:
    """Collects the images of a split that cannot be used.

    At most 1 in 100 may be, unless bad items are skipped (`data.options.skip_bad`); never all.

    Args:
        data: the split.
        total: the number of its images that are read; None for all.
    """

    def __init__(self, data: LabelledData, total: int | None = None) -> None:
        self._where = f"{data.root}: the split {data.split!r}"
        self._skip_bad = data.options.skip_bad
        self._total = len(data.records) if total is None else total
        self._errors: dict[Path, str] = {}

    def add(self, path: Path, error: EffkerasError) -> None:
        """Counts an image, once."""
        self._errors.setdefault(path, str(error))

    def check(self) -> None:
        """Raises EffkerasError when too many images cannot be used."""
        count = len(self._errors)
        if count and count >= self._total:
            raise EffkerasError(f"{self._where}: none of its images can be used; the first: {self._first}")
        if not (self._skip_bad or tolerated(count, self._total)):
            raise EffkerasError(
                f"{self._where}: {count} of {self._total} images cannot be used; the first: {self._first}; "
                "or leave bad images out with --skip-bad"
            )

    def note(self) -> None:
        """Notes once how many images were left out, and which. Raises EffkerasError like `check`."""
        self.check()
        if self._errors:
            count = len(self._errors)
            names = [path.name for path in list(self._errors)[1:_NAMED]]
            names += [f"{count - _NAMED} more"] if count > _NAMED else []
            others = f"; and {', '.join(names)}" if names else ""
            note_once(
                f"{self._where}: left out {count} of {self._total} images that cannot be used: "
                f"{self._first}{others}"
            )

    @property
    def _first(self) -> str:
        return next(iter(self._errors.values()))
