"""Label maps: the class of every pixel, from COCO's masks or from PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from effkeras.data.images import readable_formats
from effkeras.data.preprocess import Placement
from effkeras.data.records import DetectionData, DetectionRecord, LabelledData, Mask
from effkeras.data.segmentations import pixels_of
from effkeras.definitions.definition import ModelSpec
from effkeras.support.errors import EffkerasError

IGNORED = 255  # excluded from loss and metrics: padding, crowds, boxes without a mask, "void" of PNG files
_WAY_OUT = "save it as a palette or 8-bit grey PNG whose values are the classes"


@dataclass(frozen=True, slots=True)
class MaskClasses:
    """Maps the classes of a data set to a model's mask classes.

    `count` is the number of mask classes. `of_boxes` gives the mask class of each class of the data,
    `of_values` that of each value of a PNG label map; () means that values are mask classes.
    """

    count: int
    of_boxes: tuple[int, ...]
    of_values: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: ModelSpec, data: DetectionData) -> MaskClasses:
        """The mapping for a model and data in its classes (`effkeras.data.classes.matched`).

        Without classes in [segment], the mask classes follow the data's. With them, they are matched by the
        labels in [segment], if any, and values of PNG label maps are mask classes. Raises EffkerasError when
        the data has no masks, or classes that the model's mask lacks.
        """
        _check_masks(spec, data)
        of_boxes = tuple(range(1, len(data.labels) + 1))
        if any(isinstance(record.masks, tuple) for record in data.records):
            of_boxes = _drawn_classes(spec, data)
        has_own = spec.segment is not None and spec.segment.classes > 0
        if has_own or data.map_classes is None:
            return cls(spec.mask_classes, of_boxes)
        return cls(spec.mask_classes, of_boxes, (0, *(label + 1 for label in data.map_classes)))


def classes_of(spec: ModelSpec, data: LabelledData) -> MaskClasses | None:
    """The mask classes for training a model on data in its classes; None when it does not segment."""
    if not spec.segments or not isinstance(data, DetectionData):
        return None
    return MaskClasses.of(spec, data)


def label_map(record: DetectionRecord, classes: MaskClasses, size: tuple[int, int]) -> np.ndarray:
    """The class of each pixel of an image: uint8 (h, w), 255 where it is unknown.

    Where masks overlap, the smaller one is on top. Crowds, and boxes without a mask, are unknown.

    Args:
        record: an image that was read with its masks.
        classes: the model's mask classes.
        size: the height and width of the decoded image.

    Raises:
        EffkerasError: a label map of another size, a PNG file that is missing or damaged, or one with
            values that are not classes.
    """
    if isinstance(record.masks, Path):
        labels = _mapped(read_label_map(record.masks), record.masks, classes)
    else:
        labels = _drawn(record, record.masks or (None,) * len(record.boxes), classes)
    if labels.shape != size:
        ours, theirs = (" x ".join(map(str, shape)) for shape in (labels.shape, size))
        raise EffkerasError(
            f"{record.path}: its masks are for {ours} pixels, and it has {theirs}; correct them"
        )
    return labels


def read_label_map(path: Path) -> np.ndarray:
    """The values of a PNG file with one class per pixel: uint8 (h, w).

    Palette images give their indices, not their colours. Raises EffkerasError when the file is missing,
    damaged, coloured, or holds values above 255.
    """
    try:
        with Image.open(path, formats=readable_formats()) as image:
            values = np.asarray(image)
    except FileNotFoundError as error:
        raise EffkerasError(f"{path}: there is no such label map; write it, or take its image out") from error
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for damaged files
        raise EffkerasError(f"{path}: the label map is damaged ({error}); {_WAY_OUT}") from error
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]  # a greyscale image saved in colour
    if values.ndim != 2:
        raise EffkerasError(f"{path}: the label map is a colour image; {_WAY_OUT}")
    if not (values.min() >= 0 and values.max() <= IGNORED):  # so that NaN is none either
        raise EffkerasError(
            f"{path}: the label map has values from {values.min()} to {values.max()}; {_WAY_OUT}"
        )
    return values.astype(np.uint8)


def to_input(labels: np.ndarray, placement: Placement, size: tuple[int, int]) -> np.ndarray:
    """An image's label map (h, w) in the network's input, uint8 (H, W), by nearest neighbour.

    Pixels outside the image are 255.
    """
    rows, columns = (
        np.floor((np.arange(size[axis]) + 0.5 - placement.offset[axis]) / placement.scale[axis]).astype(int)
        for axis in (0, 1)
    )
    inside = _within(rows, labels.shape[0])[:, None] & _within(columns, labels.shape[1])
    near = labels.take(rows, axis=0, mode="clip").take(columns, axis=1, mode="clip")
    return np.where(inside, near, np.uint8(IGNORED))


def _check_masks(spec: ModelSpec, data: DetectionData) -> None:
    def has_mask(record: DetectionRecord) -> bool:
        return isinstance(record.masks, Path) or any(mask is not None for mask in record.masks)

    if not any(map(has_mask, data.records)):
        raise EffkerasError(
            f"{data.root}: the split {data.split!r} has no masks, which {spec.name} with the head segment "
            "needs; give COCO labels with segmentations, or PNG label maps in SPLIT/masks"
        )


def _drawn_classes(spec: ModelSpec, data: DetectionData) -> tuple[int, ...]:
    """The mask class of each class of data with COCO masks."""
    own = spec.segment.labels if spec.segment else ()
    missing = [name for name in data.labels if own and name not in own]
    if missing:
        raise EffkerasError(
            f"{data.root} has the class {missing[0]!r}, and the [segment] labels of {spec.name} are "
            f"{', '.join(map(repr, own[:5]))}{', ...' if len(own) > 5 else ''}; name the same classes there"
        )
    if own:
        return tuple(own.index(name) for name in data.labels)
    if len(data.labels) >= spec.mask_classes:
        raise EffkerasError(
            f"{data.root} has {len(data.labels)} categories and {spec.name} {spec.mask_classes} mask "
            "classes, the background one of them; leave [segment] classes out, and they follow the data"
        )
    return tuple(range(1, len(data.labels) + 1))


def _mapped(values: np.ndarray, path: Path, classes: MaskClasses) -> np.ndarray:
    """The mask classes of a PNG label map's values."""
    checked = _checked(values, path, len(classes.of_values) or classes.count)
    if not classes.of_values:
        return checked
    table = np.full(IGNORED + 1, IGNORED, np.uint8)
    table[: len(classes.of_values)] = classes.of_values
    return table[checked]


def _checked(labels: np.ndarray, path: Path, count: int) -> np.ndarray:
    highest = int(labels[labels != IGNORED].max(initial=0))
    if highest >= count:
        raise EffkerasError(
            f"{path}: the label map has the value {highest}, and there are {count} mask classes: "
            f"0 to {count - 1}, and 255 for unknown"
        )
    return labels


def _drawn(record: DetectionRecord, masks: Sequence[Mask | None], classes: MaskClasses) -> np.ndarray:
    labels = np.zeros(record.size, np.uint8)
    for region in record.unknown:
        _draw(labels, None, region, IGNORED)
    known = [mask is not None and not crowd for mask, crowd in zip(masks, record.crowd, strict=True)]
    # Unknown regions first, then from large to small.
    for position in sorted(range(len(masks)), key=lambda at: (known[at], -record.areas[at])):
        value = classes.of_boxes[record.classes[position]] if known[position] else IGNORED
        _draw(labels, masks[position], record.boxes[position], value)
    return labels


def _draw(labels: np.ndarray, mask: Mask | None, box: np.ndarray, value: int) -> None:
    if mask is not None:
        labels[pixels_of(mask, labels.shape)] = value
        return
    top, left = np.floor(box[:2]).astype(int)
    bottom, right = np.ceil(box[2:]).astype(int)
    labels[top:bottom, left:right] = value


def _within(positions: np.ndarray, length: int) -> np.ndarray:
    return (positions >= 0) & (positions < length)
