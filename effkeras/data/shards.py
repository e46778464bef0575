"""Sharded files of examples: reads them one by one, and unpacks their images once."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effkeras.data.tf_examples import Example, parse_example, read_records
from effkeras.support import files
from effkeras.support.console import note_once, track
from effkeras.support.errors import EffkerasError

_MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}
_INDEX = "index.json"  # of unpacked images


@dataclass(frozen=True, slots=True)
class Shards:
    """The files of one split.

    `translate` gives an example the keys of the Object Detection API; `read` gives the records of a file.
    """

    paths: Sequence[Path]
    translate: Callable[[Example], Example] = lambda example: example
    read: Callable[[Path], Iterator[bytes]] = read_records

    def examples(self, *, skip_bad: bool) -> Iterator[tuple[str, Example | EffkerasError]]:
        """Each record's name and example, or the error of a damaged one.

        Records behind a damaged one cannot be found: with `skip_bad` the next file goes on. Raises
        EffkerasError for a damaged file otherwise, and for files that are missing from a numbered set.
        """
        self._check_complete()
        for path in sorted(self.paths):
            number = 0
            try:
                for number, content in enumerate(self.read(path), 1):
                    yield f"{path.name}: record {number}", self._parsed(content)
            except EffkerasError as error:
                if not skip_bad:
                    raise
                yield f"{path.name}: from record {number + 1} on", error

    def _parsed(self, content: bytes) -> Example | EffkerasError:
        try:
            return self.translate(parse_example(content))
        except EffkerasError as error:
            return error

    def _check_complete(self) -> None:
        groups: dict[tuple[str, int], set[int]] = {}
        for path in self.paths:
            found = re.search(r"(.*?)-(\d{5})-of-(\d{5})", path.name)
            if found:
                groups.setdefault((found[1], int(found[3])), set()).add(int(found[2]))
        for (base, count), numbers in groups.items():
            missing = sorted(set(range(count)) - numbers)
            if missing:
                raise EffkerasError(
                    f"{self.paths[0].parent}: {len(missing)} of the {count} files {base}-*-of-{count:05d} "
                    f"are missing, first number {missing[0]}; copy them there"
                )


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The images of a split, unpacked into a folder: file names by record, and whether there are boxes."""

    folder: Path
    names: Mapping[str, str]
    has_boxes: bool

    @classmethod
    def of(cls, root: Path, split: str, shards: Shards) -> Unpacked:
        """Unpacks the images into the cache, unless that is done. Raises EffkerasError like `examples`."""
        found = [(str(one.resolve()), one.stat()) for one in sorted(shards.paths)]
        stamp = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in found])
        name = hashlib.sha256(stamp.encode()).hexdigest()[:24]
        folder = files.cache_folder() / "images" / name / files.safe_name(split, "the split")
        if not (folder / _INDEX).is_file():
            note_once(f"{root}: the images of {split} are unpacked once, to {folder}")
            with files.whole_folder(folder) as fresh:
                _unpack(shards, fresh, split)
        try:
            index = json.loads((folder / _INDEX).read_bytes())
            return cls(folder, index["names"], index["has_boxes"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise EffkerasError(
                f"{folder / _INDEX} is damaged; delete {folder}, and the images are unpacked again"
            ) from error

    def path(self, where: str) -> Path | None:
        """The image of a record; None if the record has none."""
        name = self.names.get(where)
        return None if name is None else self.folder / name


def _unpack(shards: Shards, folder: Path, split: str) -> None:
    names: dict[str, str] = {}
    has_boxes = False
    seen: Counter[str] = Counter()
    for where, example in track(shards.examples(skip_bad=True), f"unpacking {split}"):
        if isinstance(example, EffkerasError):
            continue
        has_boxes |= any(key.startswith("image/object/") for key in example)
        encoded = byte_values(example, "image/encoded")
        if encoded:
            names[where] = _file_name(example, encoded[0], seen)
            (folder / names[where]).write_bytes(encoded[0])
    index = {"has_boxes": has_boxes, "names": names}
    (folder / _INDEX).write_text(json.dumps(index), "utf-8")


def _file_name(example: Example, encoded: bytes, seen: Counter[str]) -> str:
    """The stated name, in characters that every file system has; a number makes it unique."""
    suffix = next((one for magic, one in _MAGIC.items() if encoded.startswith(magic)), ".img")
    stated = next(iter(byte_values(example, "image/filename")), b"").decode(errors="replace")
    stem = Path(stated.replace("\\", "/")).stem
    plain = re.sub(r"[^\w. -]", "_", stem).strip(". ")[:80] or "image"
    seen[plain.casefold()] += 1
    number = seen[plain.casefold()]
    return f"{plain}{suffix}" if number == 1 and plain != "image" else f"{plain}-{number}{suffix}"


def byte_values(example: Example, key: str) -> list[bytes]:
    """The byte strings of a feature; [] without it."""
    values = example.get(key, [])
    return values if isinstance(values, list) else []


def number_values(example: Example, key: str) -> np.ndarray:
    """The numbers of a feature, (n,); empty without it."""
    values = example.get(key)
    return values if isinstance(values, np.ndarray) else np.zeros(0)
