"""YOLO's `data.yaml`: the folders of the splits, and the class names.

The keys: https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from effkeras.data.image_files import relative_parts
from effkeras.definitions.class_names import checked_class_names
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError, first_line

IMAGES = "images"
DATA_FILE = "data.yaml"
SPLITS = ("train", "val", "valid", "validation", "test")
_YAML = (".yaml", ".yml")
_NO_VALUE = ("", "~", "null", "Null", "NULL")
_MOST_BYTES = 512 * 1024  # of a data.yaml or list of classes; 9,000 classes take 250 kB
_MOST_ENTRIES = 40_000  # of a data.yaml, which take PyYAML two seconds
_HEAD = 64 * 1024  # bytes in which a data.yaml must have the keys that identify it


def data_files(root: Path) -> list[Path]:
    """The data.yaml; several files of that kind where none has the usual name."""
    if root.is_file():
        return [root] if _is_data_file(root) else []
    if not root.is_dir():
        return []
    usual = [root / name for name in (DATA_FILE, "data.yml", "dataset.yaml") if _is_data_file(root / name)]
    if usual:
        return usual[:1]
    return sorted(path for path in root.iterdir() if _is_data_file(path))


def _is_data_file(path: Path) -> bool:
    """Whether a file is YAML with the keys that a YOLO data set has."""
    if path.suffix.lower() not in _YAML or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    keys = set(re.findall(rb"(?m)^(?:\xef\xbb\xbf)?[\"']?(\w+)[\"']?[ \t]*:", head))
    return bool(keys & {b"names", b"nc"}) and bool(keys & {name.encode() for name in SPLITS})


@dataclass(frozen=True, slots=True)
class DataFile:
    """What a data.yaml states.

    `splits` gives each split's folders and lists (.txt) of images; `names` the class names by class number,
    None where it has none. Lines of labels may have `keypoints` values after the box.
    """

    splits: dict[str, tuple[Path, ...]]
    names: dict[int, str] | None
    keypoints: int


def read_data_file(path: Path) -> DataFile:
    """Reads a data.yaml. Raises EffkerasError for a bad one, and when no split is where it says."""
    content = _load(path)
    keypoints = _keypoints(path, content.get("kpt_shape"))
    return DataFile(_named_splits(path, content), _names(path, content), keypoints)


class _Texts(yaml.BaseLoader):
    """Loads YAML as texts, lists and mappings only: a class `no` or `007` keeps its name.

    BaseLoader makes no other objects (SafeLoader also makes booleans, numbers and dates). References to other
    parts of the file are refused, because they can grow without bounds.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise EffkerasError("has references (*name); write the values themselves")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        content = super().construct_mapping(node, deep=True)
        if len(content) < len(node.value):
            counts = Counter(str(key.value) for key, _ in node.value)
            twice = counts.most_common(1)[0][0]
            raise EffkerasError(f"the key {twice[:40]!r} occurs twice; give each a key of its own")
        return content


def _load(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if text.count(",") + text.count("\n") > _MOST_ENTRIES:
        raise EffkerasError(f"{path}: has more than {_MOST_ENTRIES} entries; it should only list classes")
    try:
        content = yaml.load(text, Loader=_Texts)  # stricter than SafeLoader
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise EffkerasError(f"{path}: not valid YAML ({error.problem or 'an error'}{line})") from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, AttributeError) as error:
        raise EffkerasError(f"{path}: not valid YAML ({first_line(error)})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise EffkerasError(f"{path}: not a YOLO data set; write keys such as train, val and names")
    return content


def read_text(path: Path) -> str:
    """A small text file. Raises EffkerasError when it is unreadable, or larger than lists of classes are."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise EffkerasError(f"{path}: larger than {_MOST_BYTES // 1024} kB; it should only list classes")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(f"cannot read {path} ({first_line(error)}); save it as UTF-8") from error


def _names(path: Path, content: Mapping[str, Any]) -> dict[int, str] | None:
    """The class names by number, compared with `nc`."""
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if names is None or names in _NO_VALUE:
        number = _whole(path, "nc", count)
        return None if number is None else {index: str(index) for index in range(number)}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise EffkerasError(f"{path}: 'names' must list the class names, or give a name for each number")
    found: dict[int, str] = {}
    for key, name in names.items():
        number = _whole(path, "a key of names", key)
        if number is None or number in found:
            raise EffkerasError(f"{path}: the class number {key!r} occurs twice in 'names'")
        found[number] = name
    found = checked_names(path, found)
    expected = _whole(path, "nc", count)
    if expected is not None and expected not in (len(found), max(found, default=-1) + 1):
        raise EffkerasError(f"{path}: nc is {expected} and 'names' has {len(found)} classes; correct one")
    return dict(sorted(found.items()))


def checked_names(path: Path, names: Mapping[int, str]) -> dict[int, str]:
    """Valid names of different classes. Raises EffkerasError for others, naming the file."""
    try:
        return dict(zip(names, checked_class_names(names.values()), strict=True))
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error


def _whole(path: Path, what: str, value: Any) -> int | None:
    if value is None or value in _NO_VALUE:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,5}", value):
        raise EffkerasError(f"{path}: {what} is {str(value)[:40]!r}, not a whole number from 0 on")
    return int(value)


def _keypoints(path: Path, value: Any) -> int:
    """The number of values that keypoints add to a line."""
    if value is None or value in _NO_VALUE:
        return 0
    sides = [_whole(path, "kpt_shape", side) or 0 for side in value] if isinstance(value, list) else []
    if len(sides) != 2:
        raise EffkerasError(f"{path}: kpt_shape must have two numbers, such as [17, 3]")
    return sides[0] * sides[1]


def _named_splits(path: Path, content: Mapping[str, Any]) -> dict[str, tuple[Path, ...]]:
    """The folders and lists of each split; a split without its folder is left out, and noted."""
    base = content.get("path") or ""
    stated = {
        key: value
        for key, value in content.items()
        if value not in _NO_VALUE and (key in SPLITS or value == f"{IMAGES}/{key}")
    }
    found: dict[str, tuple[Path, ...]] = {}
    missing: dict[str, str] = {}
    for key, value in stated.items():
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise EffkerasError(f"{path}: {key!r} must be a folder, a list of folders or a .txt of images")
        places = {text: _place(path, base if isinstance(base, str) else "", key, text) for text in texts}
        lost = next((text for text, place in places.items() if place is None), None)
        if lost is None:
            found[key] = tuple(place for place in places.values() if place)
        else:
            missing[key] = lost
    if not found:
        shown = "; ".join(f"{key}: {value}" for key, value in missing.items()) or "no split"
        raise EffkerasError(f"{path}: no folder of images is where it says ({shown}); correct the paths")
    for key, value in missing.items():
        note_once(f"{path}: {key} is left out: there is no {value!r}")
    return found


def _place(path: Path, base: str, key: str, text: str) -> Path | None:
    """The folder or list of images that a data.yaml names; None where it is missing.

    Exports are often moved, and Roboflow writes ../train/images for train/images: then the folder is looked
    for beside the file and one and two folders above, and it is noted.
    """
    home = absolute(path.parent)
    ups, parts = _relative(path, home, key, text)
    try:
        base_ups, base_parts = _relative(path, home, "path", base)
    except EffkerasError as error:
        note_once(f"{error}; {key} is looked for beside the file")
        base_ups, base_parts = 0, ()
    above = [home.parent, home.parent.parent] if base_parts else []
    upwards = Path(os.path.normpath(home.joinpath(*[".."] * base_ups, *base_parts, *[".."] * ups, *parts)))
    candidates = [
        home.joinpath(*base_parts, *parts),
        home.joinpath(*parts),
        *([upwards] if upwards.is_relative_to(home.parent) else []),
        *(folder.joinpath(*base_parts, *parts) for folder in above),
    ]
    found = next((one for one in candidates if one.is_dir() or _is_list(one)), None)
    if found is not None and found != upwards:
        stated = f"{text!r} in {base!r}" if base else repr(text)
        note_once(f"{path}: {key} is {stated}; {found} is used")
    if found is not None and found.is_relative_to(home):
        return path.parent / found.relative_to(home)  # as the user spells it
    return found


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and path.is_file()


def _relative(path: Path, home: Path, key: str, text: str) -> tuple[int, tuple[str, ...]]:
    """The number of leading ".." and the parts after them. Raises EffkerasError for other folders."""
    plain = text.strip().replace("\\", "/")
    try:
        if plain.startswith("/"):
            absolute = Path(os.path.normpath(plain))
            if absolute.is_relative_to(home):
                return 0, absolute.relative_to(home).parts
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        ups = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
        rest = "/".join(parts[ups:])
        return ups, relative_parts(plain if plain.startswith("/") else rest) if rest else ()
    except (EffkerasError, ValueError) as error:
        raise EffkerasError(f"{path}: {key}: {error}") from error


def absolute(path: Path) -> Path:
    """The path from the root on, without "..": links are kept, as names in files go by them."""
    return Path(os.path.normpath(path.absolute()))
