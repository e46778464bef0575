"""Label maps of TensorFlow's Object Detection API: the names of classes by number, as .pbtxt files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.data.records import Category
from effkeras.definitions.class_names import checked_class_names
from effkeras.support.errors import EffkerasError

_LARGEST = 2**22  # bytes; a map of 20,000 classes has 1.3 MB
# An item of at most 1,000 characters: the search for an open text starts at each key, and ends with the item.
_ENTRY = r"item\s*(?::\s*)?\{([^{}]{0,1000})\}"
_ITEM = r"""\b(id|name|display_name)\s*:\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(\d{1,9}))"""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The classes of a label map by their number, and the file that holds it."""

    names: Mapping[int, str]
    file: Path

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes in the order of their numbers."""
        return tuple(Category(number, name) for number, name in sorted(self.names.items()))


def read_label_map(path: Path) -> LabelMap:
    """The classes of a label map in protobuf's text format: `item { id: 1 name: "cat" }`.

    `display_name` is preferred to `name`. Raises EffkerasError for a file without items, and for numbers or
    names that occur twice.
    """
    text = re.sub(r"(?m)^[^\S\n]*#.*$", "", _text(path))
    names: dict[int, str] = {}
    for item in re.findall(_ENTRY, text):
        values = {key: a or b or c for key, a, b, c in re.findall(_ITEM, item)}
        name = values.get("display_name") or values.get("name")
        if name is None or not values.get("id", "").isdigit() or int(values["id"]) in names:
            raise EffkerasError(f"{path}: an item needs an id of its own and a name: {item.strip()[:60]!r}")
        names[int(values["id"])] = name
    if not names:
        raise EffkerasError(f"{path}: there are no items; write item {{ id: 1 name: 'cat' }} for each class")
    checked = checked_class_names(names.values())
    return LabelMap(dict(zip(names, checked, strict=True)), path)


def label_map_text(numbers: Sequence[int], names: Sequence[str]) -> str:
    """A label map in protobuf's text format."""
    quoted = [json.dumps(name, ensure_ascii=False) for name in names]
    pairs = zip(numbers, quoted, strict=True)
    return "".join(f"item {{\n  id: {number}\n  name: {name}\n}}\n" for number, name in pairs)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise EffkerasError(f"{path}: too large for a label map")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(f"cannot read {path} ({error}); write the label map again, in UTF-8") from error
