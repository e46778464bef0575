"""Data sets that TensorFlow Datasets has prepared, by folder or by name; reader.

The layout: https://www.tensorflow.org/datasets/external_tfrecord. Neither TensorFlow nor tensorflow_datasets
is loaded. Nothing is downloaded: `tfds build NAME` does that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.data.formats import FORMATS, DataFormat, Evidence
from effkeras.data.formats.tfrecord import BOX, LABEL, read_shards
from effkeras.data.images import list_folder, subfolders
from effkeras.data.label_maps import LabelMap
from effkeras.data.records import LabelledData, ReadOptions
from effkeras.data.shards import Shards, byte_values, number_values
from effkeras.data.tf_examples import Example, read_records
from effkeras.definitions.class_names import checked_class_names, natural_key
from effkeras.support.errors import EffkerasError, first_line

_INFO, _FEATURES = "dataset_info.json", "features.json"
_BY_NAME = "tfds:"
_CORNERS = ("ymin", "xmin", "ymax", "xmax")
# The order of corners in a feature for boxes.
_ORDERS = {"REL_YXYX": (0, 1, 2, 3), "": (0, 1, 2, 3), "REL_XYXY": (1, 0, 3, 2)}


@FORMATS.register("tfds")
class TFDS(DataFormat):
    """A prepared data set of TensorFlow Datasets."""

    title = "TensorFlow Datasets"
    layout = "a folder with dataset_info.json and features.json, or tfds:NAME of one prepared by `tfds build`"
    evidence = Evidence.LABEL_FILE

    def exists(self, root: Path) -> bool:
        """Also true of `tfds:NAME`, whether that is prepared or not."""
        return str(root).startswith(_BY_NAME) or root.exists()

    def splits(self, root: Path) -> list[str]:
        """The splits in dataset_info.json."""
        folder = _folder(root)
        if folder is None or not (folder / _INFO).is_file() or not (folder / _FEATURES).is_file():
            return [] if folder is not None or not str(root).startswith(_BY_NAME) else ["train"]
        try:
            return sorted(str(one["name"]) for one in _json(folder / _INFO)["splits"])
        except (EffkerasError, KeyError, TypeError):
            return []

    def read(self, root: Path, split: str, options: ReadOptions) -> LabelledData:
        """Reads a split with boxes and classes, or with one class for each image."""
        folder = _folder(root)
        if folder is None:
            name = str(root).removeprefix(_BY_NAME)
            where = f"{name} is not prepared in {_data_dir()}"
            raise EffkerasError(f"{root}: {where}; run `tfds build {name}`, or set TFDS_DATA_DIR")
        if split not in self.splits(root):
            raise self.missing_split(root, split)
        keys = _Keys.of(folder)
        shards = Shards(_files(folder, split), keys.translate, _records)
        return read_shards(root, split, shards, options, label_map=_labels(folder, keys.label))


@dataclass(frozen=True, slots=True)
class _Keys:
    """The names of a data set's features: the image, the boxes ("" without) and the class."""

    image: str
    boxes: str
    label: str
    order: tuple[int, ...] = (0, 1, 2, 3)

    @classmethod
    def of(cls, folder: Path) -> _Keys:
        """Finds them in features.json. Raises EffkerasError for a data set that has no images or classes."""
        features = _children(_json(folder / _FEATURES))
        image = next((name for name, one in features.items() if "image" in one), None)
        if image is None:
            raise EffkerasError(f"{folder}: no feature is an image; features: {', '.join(features)}")
        for name, feature in features.items():
            parts = _children(_value(_value(feature, "sequence"), "feature"))
            boxes = next((part for part, one in parts.items() if "boundingBox" in one), None)
            if boxes is not None:
                label = _class_feature(parts)
                if label is None:
                    raise EffkerasError(f"{folder}: the boxes in {name!r} have no class")
                order = _order(folder, parts[boxes])
                return cls(image, f"{name}/{boxes}", f"{name}/{label}", order)
        label = _class_feature(features)
        if label is None:
            raise EffkerasError(f"{folder}: no feature is a class; features: {', '.join(features)}")
        return cls(image, "", label)

    def translate(self, example: Example) -> Example:
        """The example with the keys of the Object Detection API."""
        labels = number_values(example, self.label)
        common: Example = {
            "image/encoded": byte_values(example, self.image),
            "image/filename": byte_values(example, f"{self.image}/filename"),
        }
        if not self.boxes:
            return {**common, "image/class/label": labels}
        corners = number_values(example, self.boxes)
        if len(corners) != 4 * len(labels):
            raise EffkerasError(f"{len(corners)} corners do not fit {len(labels)} classes")
        columns = corners.reshape(-1, 4)[:, self.order].T
        group = self.boxes.partition("/")[0]
        return {
            **common,
            **{f"{BOX}/{name}": values for name, values in zip(_CORNERS, columns, strict=True)},
            LABEL: labels,
            "image/object/is_crowd": number_values(example, f"{group}/is_crowd"),
            "image/object/difficult": number_values(example, f"{group}/is_difficult"),
        }


def _order(folder: Path, feature: Mapping[str, Any]) -> tuple[int, ...]:
    stated = str(_value(feature, "boundingBox").get("bboxFormat", ""))
    if stated not in _ORDERS:
        raise EffkerasError(
            f"{folder}: boxes as {stated} are not read; known: {', '.join(filter(None, _ORDERS))}"
        )
    return _ORDERS[stated]


def _class_feature(features: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The feature that is a class: `label` if there are several."""
    found = [name for name, one in features.items() if "classLabel" in one]
    return "label" if "label" in found else next(iter(found), None)


def _children(feature: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    parts = _value(_value(feature, "featuresDict"), "features")
    return {name: one for name, one in parts.items() if isinstance(one, dict)}


def _value(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EffkerasError(
            f"cannot read {path} ({first_line(error)}); prepare the data set again"
        ) from error
    if not isinstance(content, dict):
        raise EffkerasError(f"{path} is not an object; prepare the data set again")
    return content


def _labels(folder: Path, label: str) -> LabelMap | None:
    """The class names by number; None where the data set has none."""
    path = folder / f"{label.replace('/', '-')}.labels.txt"
    try:
        if not path.is_file():
            return None
        names = checked_class_names(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(f"cannot read {path} ({error}); prepare the data set again") from error
    return LabelMap(dict(enumerate(names)), path)


def _files(folder: Path, split: str) -> list[Path]:
    marks = (f"-{split}.tfrecord-", f"-{split}.array_record-")
    found = [path for path in list_folder(folder) if any(mark in path.name for mark in marks)]
    if not found:
        raise EffkerasError(f"{folder}: no files of the split {split!r} as TFRecord or ArrayRecord")
    return found


def _records(path: Path) -> Iterator[bytes]:
    if ".array_record-" not in path.name:
        yield from read_records(path)
        return
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise EffkerasError(f"{path} needs the package array_record: pip install array_record") from error
    try:
        reader = ArrayRecordReader(str(path))
        for number in range(reader.num_records()):
            yield reader.read([number])[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise EffkerasError(f"cannot read {path}: {first_line(error)}; prepare the data set again") from error


def _folder(root: Path) -> Path | None:
    """The folder of a data set; of `tfds:NAME` that of the latest version, None if it is not prepared."""
    if not str(root).startswith(_BY_NAME):
        return root
    folder = _data_dir() / str(root).removeprefix(_BY_NAME)
    versions = [one for one in subfolders(folder) if (one / _INFO).is_file()]
    if (folder / _INFO).is_file():
        return folder
    return max(versions, key=lambda one: natural_key(one.name), default=None)


def _data_dir() -> Path:
    chosen = os.environ.get("TFDS_DATA_DIR")
    return Path(chosen) if chosen else Path.home() / "tensorflow_datasets"
