"""TFRecord files with the keys of TensorFlow's Object Detection API; reader and writer.

The keys: https://github.com/tensorflow/models/blob/master/research/object_detection/g3doc/using_your_own_dataset.md.
Corners are shares of the image's sides. Images are inside the records: the first reading unpacks them into
`effkeras.support.files.cache_folder()`.
"""

from __future__ import annotations

import collections
import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from effkeras.data.formats import FORMATS, WHOLE, DataFormat, Evidence
from effkeras.data.images import image_size, list_folder, read_image, subfolders
from effkeras.data.label_maps import LabelMap, label_map_text, read_label_map
from effkeras.data.records import (
    ClassificationData,
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    LabelledData,
    Mask,
    ReadOptions,
    RunLengths,
    Skipped,
)
from effkeras.data.segmentations import encode_rle, pixels_of
from effkeras.data.shards import Shards, Unpacked, byte_values, number_values
from effkeras.data.split_builder import Annotation, Corners, SplitBuilder
from effkeras.data.tf_examples import Example, encode_example, write_records
from effkeras.data.writing import names_in_one_folder
from effkeras.definitions.class_names import checked_class_name, class_key, natural_key
from effkeras.support import files
from effkeras.support.console import note_once, track
from effkeras.support.errors import EffkerasError

_SUFFIXES = frozenset({".tfrecord", ".tfrecords", ".record", ".records", ".tfrec"})
_WORDS = (".tfrec", ".record")  # each suffix begins with one
_SHARD = re.compile(r"(?P<base>.*?)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_SPLIT = re.compile(r"(?:^|[^a-z])(train|valid|validation|val|test)(?:[^a-z]|$)")
_SHARD_BYTES = 2**28  # of a written file
BOX = "image/object/bbox"
_CORNERS = ("ymin", "xmin", "ymax", "xmax")
TEXT, LABEL = "image/object/class/text", "image/object/class/label"
_MOST_SHARE = 2.0  # a corner beyond this share of a side is in pixels


@FORMATS.register("tfrecord")
class TFRecord(DataFormat):
    """TFRecord files of images with boxes, or with one class each."""

    title = "TFRecord"
    layout = "SPLIT.tfrecord, SPLIT.record-00000-of-00010 or SPLIT/*.tfrecord, with label_map.pbtxt"
    evidence = Evidence.LABEL_FILE

    def splits(self, root: Path) -> list[str]:
        """The words train, val and test in names of files or folders; `WHOLE` without them."""
        return sorted(_splits(root))

    def read(self, root: Path, split: str, options: ReadOptions) -> LabelledData:
        """Reads a split; `difficult` objects are ignored like crowds."""
        shards = _splits(root).get(split)
        if shards is None:
            raise self.missing_split(root, split)
        return read_shards(root, split, Shards(shards), options, label_map=_label_map(root, shards))

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes shards of at most 256 MB and label_map.pbtxt. Images are kept as they are if JPEG or PNG."""
        names = names_in_one_folder(splits)
        for data in splits:
            _write_split(folder, data, names)
        files.write_text(folder / "label_map.pbtxt", label_map_text(_ids(splits[0]), splits[0].labels))


class _Source(NamedTuple):
    """The records of a split, their images, and the classes."""

    shards: Shards
    images: Unpacked
    label_map: LabelMap | None


def read_shards(
    root: Path, split: str, shards: Shards, options: ReadOptions, *, label_map: LabelMap | None
) -> LabelledData:
    """A split from examples with the keys of the Object Detection API.

    Raises EffkerasError for damaged files and, unless bad items are skipped, for bad annotations.
    """
    source = _Source(shards, Unpacked.of(root, split, shards), label_map)
    read = _read_detection if source.images.has_boxes else _read_classification
    return read(root, split, options, source)


def _splits(root: Path) -> dict[str, list[Path]]:
    """The files of each split; {} for a folder that TensorFlow Datasets prepared."""
    if root.is_file():
        return {WHOLE: [root]} if _is_record_file(root) else {}
    if not root.is_dir() or (root / "dataset_info.json").is_file():
        return {}
    found: dict[str, list[Path]] = {}
    for path in filter(_is_record_file, list_folder(root)):
        found.setdefault(_split_of(path.name), []).append(path)
    for folder in subfolders(root):
        shards = [path for path in list_folder(folder) if _is_record_file(path)]
        if shards:
            found.setdefault(folder.name, []).extend(shards)
    return found


def _is_record_file(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    if not any(word in name for word in _WORDS):  # spares most files of other formats what follows
        return False
    shard = _SHARD.fullmatch(name)
    # A shard's number stands before or behind the suffix.
    bases = (shard["base"],) if shard else (name, re.sub(r"-\d{5}-of-\d{5}(?=\.)", "", name))
    return any(Path(base).suffix in _SUFFIXES for base in bases) and path.is_file()


def _split_of(name: str) -> str:
    word = _SPLIT.search(name.lower().replace("_", "-"))
    return word[1] if word else WHOLE


def _read_detection(root: Path, split: str, options: ReadOptions, source: _Source) -> DetectionData:
    builder = SplitBuilder(root, split, options, source.label_map.categories if source.label_map else None)
    for where, example in source.shards.examples(skip_bad=options.skip_bad):
        if isinstance(example, EffkerasError):
            builder.lose_image(where, str(example))
            continue
        path = source.images.path(where)
        if path is None:
            builder.lose_image(where, "it has no image/encoded")
            continue
        size = _size(example)
        annotations = _annotations(example, size or image_size(path), source.label_map, masks=options.masks)
        builder.add(path, size, annotations, where=where)
    return builder.build()


def _size(example: Example) -> tuple[int, int] | None:
    sides = [number_values(example, f"image/{side}") for side in ("height", "width")]
    if any(len(side) != 1 or side[0] < 1 for side in sides):
        return None
    return int(sides[0][0]), int(sides[1][0])


def _annotations(
    example: Example, size: tuple[int, int], label_map: LabelMap | None, *, masks: bool
) -> Iterator[Annotation]:
    columns = {name: number_values(example, f"{BOX}/{name}") for name in _CORNERS}
    texts = [one.decode(errors="replace") for one in byte_values(example, TEXT)]
    labels = number_values(example, LABEL)
    count = max(*(len(values) for values in columns.values()), len(texts), len(labels))
    problem = _uneven({**columns, "class/text": texts, "class/label": labels}, count)
    if problem:
        yield Annotation(f"its {count} objects", "", None, problem)
        return
    stored = byte_values(example, "image/object/mask") if masks else []
    for place in range(count):
        label, problem = _class(texts[place : place + 1], labels[place : place + 1], label_map)
        top, left, bottom, right = (float(columns[name][place]) for name in _CORNERS)
        mask, mask_problem = _mask(stored[place], size) if place < len(stored) else (None, "")
        corners = (top * size[0], left * size[1], bottom * size[0], right * size[1])
        yield Annotation(
            what=f"object {place + 1} ({label[:40]!r})",
            label=label,
            corners=corners,
            problem=problem or _not_shares((top, left, bottom, right)) or mask_problem,
            crowd=_flag(example, "is_crowd", place) or _flag(example, "difficult", place),
            area=_area(example, place),
            mask=mask,
            shown=f"ymin={top:g} xmin={left:g} ymax={bottom:g} xmax={right:g}",
        )


def _uneven(columns: Mapping[str, Sequence[object] | np.ndarray], count: int) -> str:
    """A problem text where lists of objects differ in length; lists for classes may be empty."""
    wrong = {
        name: len(values)
        for name, values in columns.items()
        if len(values) != count and not (name.startswith("class/") and not len(values))
    }
    return f"lists of objects differ in length: {count} and {wrong}" if wrong else ""


def _not_shares(corners: Corners) -> str:
    """A problem text for corners in pixels."""
    if all(math.isfinite(value) for value in corners) and max(map(abs, corners)) > _MOST_SHARE:
        return f"its corners {list(corners)} are not shares of the image's sides; divide pixels by them"
    return ""


def _class(texts: Sequence[str], labels: np.ndarray, label_map: LabelMap | None) -> tuple[str, str]:
    """The class name, and a problem where text and number contradict each other."""
    number = int(labels[0]) if len(labels) else None
    named = label_map.names.get(number) if label_map and number is not None else None
    if not texts:
        if named is not None:
            return named, ""
        if number is None:
            return "", "it has neither class/text nor class/label"
        return str(number), f"its class/label {number} is not in {label_map.file}" if label_map else ""
    if named is not None and class_key(named) != class_key(texts[0]):
        assert label_map is not None
        return texts[0], f"its class/text is {texts[0]!r}, and {label_map.file.name} calls {number} {named!r}"
    return texts[0], ""


def _flag(example: Example, name: str, place: int) -> bool:
    values = number_values(example, f"image/object/{name}")
    return place < len(values) and bool(values[place])


def _area(example: Example, place: int) -> float | None:
    values = number_values(example, "image/object/area")
    area = float(values[place]) if place < len(values) else 0.0
    return area if 0 < area < math.inf else None


def _mask(content: bytes, size: tuple[int, int]) -> tuple[Mask | None, str]:
    """The run lengths of a mask's PNG file; or None and the problem."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if (image.height, image.width) != size:
                return (
                    None,
                    f"its mask has {image.width} x {image.height} pixels, its image {size[1]} x {size[0]}",
                )
            pixels = np.asarray(image.convert("L")) > 0
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for damaged files
        return None, f"its mask is not a PNG that Pillow can read ({error})"
    return RunLengths(np.array(encode_rle(pixels)["counts"], np.int64)), ""


def _read_classification(root: Path, split: str, options: ReadOptions, source: _Source) -> ClassificationData:
    found: list[tuple[Path, str]] = []
    skipped: list[Skipped] = []
    for where, example in source.shards.examples(skip_bad=options.skip_bad):
        problem = str(example) if isinstance(example, EffkerasError) else ""
        path, label = source.images.path(where), ""
        if not isinstance(example, EffkerasError):
            texts = [one.decode(errors="replace") for one in byte_values(example, "image/class/text")]
            label, problem = _class(texts, number_values(example, "image/class/label"), source.label_map)
        if path is not None and not problem:
            found.append((path, checked_class_name(label)))
            continue
        if not options.skip_bad:
            raise EffkerasError(f"{root}: {where}: {problem or 'it has no image/encoded'}; or use --skip-bad")
        skipped.append(Skipped(where, problem or "it has no image/encoded"))
    if not found:
        raise EffkerasError(f"{root}: the split {split!r} has no image with boxes or a class")
    listed = [one.name for one in source.label_map.categories] if source.label_map else []
    labels = tuple(listed or sorted({label for _, label in found}, key=natural_key))
    index = {class_key(label): place for place, label in enumerate(labels)}
    unknown = [label for _, label in found if class_key(label) not in index]
    if unknown:
        assert source.label_map is not None
        raise EffkerasError(
            f"{root}: the class {unknown[0]!r} is not in {source.label_map.file}; add it there"
        )
    records = tuple(ClassificationRecord(path, index[class_key(label)]) for path, label in found)
    return ClassificationData(root, split, labels, records, tuple(skipped))


def _label_map(root: Path, shards: Sequence[Path]) -> LabelMap | None:
    """The label map beside the files of a split or in the data set's folder."""
    folders = dict.fromkeys([*(shard.parent for shard in shards), *([root] if root.is_dir() else [])])
    found = [path for folder in folders for path in list_folder(folder) if path.suffix == ".pbtxt"]
    maps = [read_label_map(path) for path in found]
    if len({tuple(one.categories) for one in maps}) > 1:
        raise EffkerasError(f"{found[0]} and {found[1]} name other classes; keep one of them")
    return maps[0] if maps else None


def _write_split(folder: Path, data: LabelledData, names: Mapping[Path, str]) -> None:
    """Writes a split in as many files as its images' sizes need."""
    sizes = [record.path.stat().st_size for record in data.records]
    count = max(1, math.ceil(sum(sizes) / _SHARD_BYTES))
    bounds = np.linspace(0, len(sizes), count + 1).astype(int)
    records: Sequence[DetectionRecord | ClassificationRecord] = data.records
    progress = track(records, f"writing {data.split}", total=len(sizes))
    for number in range(count):
        few = itertools.islice(progress, int(bounds[number + 1] - bounds[number]))
        path = folder / f"{data.split}.tfrecord-{number:05d}-of-{count:05d}"
        write_records(path, (encode_example(_features(data, record, names)) for record in few))
    collections.deque(progress, maxlen=0)  # ends the progress bar


def _features(
    data: LabelledData, record: DetectionRecord | ClassificationRecord, names: Mapping[Path, str]
) -> dict[str, Any]:
    encoded, kind = _encoded(record.path)
    name = f"{Path(names[record.path]).stem}.{'jpg' if kind == 'jpeg' else 'png'}"
    common: dict[str, Any] = {
        "image/encoded": [encoded],
        "image/format": [kind.encode()],
        "image/filename": [name.encode()],
    }
    if isinstance(record, ClassificationRecord):
        height, width = image_size(record.path)
        label = {
            "image/class/label": [record.label + 1],
            "image/class/text": [data.labels[record.label].encode()],
        }
        return {**common, **label, "image/height": [height], "image/width": [width]}
    return {**common, **_objects(data, record)}


def _objects(data: LabelledData, record: DetectionRecord) -> dict[str, Any]:
    height, width = record.size
    corners = zip(_CORNERS, (record.boxes / [height, width, height, width]).T, strict=True)
    ids = _ids(data)
    masks = () if isinstance(record.masks, Path) else record.masks
    return {
        "image/height": [height],
        "image/width": [width],
        "image/source_id": [str(record.image_id).encode()],
        **{f"{BOX}/{name}": [float(value) for value in values] for name, values in corners},
        TEXT: [data.labels[label].encode() for label in record.classes],
        LABEL: [ids[label] for label in record.classes],
        "image/object/is_crowd": [int(crowd) for crowd in record.crowd],
        "image/object/area": [float(area) for area in record.areas],
        **({"image/object/mask": [_png(mask, record.size) for mask in masks]} if masks else {}),
    }


def _png(mask: Mask | None, size: tuple[int, int]) -> bytes:
    pixels = np.zeros(size, bool) if mask is None else pixels_of(mask, size)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _encoded(path: Path) -> tuple[bytes, str]:
    """The bytes of a JPEG or PNG file as they are, of another image as PNG; and the format's name."""
    content = path.read_bytes()
    for magic, kind in ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG", "png")):
        if content.startswith(magic):
            return content, kind
    note_once(f"{path} and others are neither JPEG nor PNG; they are written as PNG")
    buffer = io.BytesIO()
    Image.fromarray(read_image(path)).save(buffer, "PNG")
    return buffer.getvalue(), "png"


def _ids(data: LabelledData) -> list[int]:
    """The numbers of the classes: the categories' ids, unless one is 0, which means background."""
    ids = [one.id for one in data.categories] if isinstance(data, DetectionData) else [0]
    return list(range(1, len(data.labels) + 1)) if min(ids) < 1 else ids
