"""Finds the files of a data set: images by the names in labels, and what a file begins with."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError, closest

_LONGEST = 4096  # characters of a path that Linux opens
_MOST_PARTS = 8  # of the ends of a path that are looked up
_HINTS = 3  # missing files whose error names a similar file
_MOST_COMPARED = 5000  # names; difflib takes 6 s for 118,000
_SPECIAL = frozenset("/\\:\0")  # characters of names that are no plain file name


class ImageFinder:
    """Finds image files by the names in labels.

    Each folder is listed once, which is far faster than a look-up for each of 100,000 images. A name may use
    backslashes, and may differ from the file's in Unicode form or in case, as long as only one file fits.

    Args:
        folder: the folder that the names are relative to.
        suffixes: the suffixes to try for names without a suffix, such as the lines of VOC's ImageSets.
    """

    def __init__(self, folder: Path, suffixes: Iterable[str] = ()) -> None:
        self._folder = folder
        self._suffixes = tuple(suffixes)
        self._listings: dict[Path, _Listing] = {}
        self._by_parts: dict[tuple[str, ...], _Listing] = {}
        self._hints = _HINTS

    def find(self, name: str) -> Path:
        """The file of that name.

        Raises:
            EffkerasError: there is no such file, several fit, or the name is absolute or contains "..".
        """
        found = self.look_up(name)
        if found is None:
            raise EffkerasError(f"no image file {name!r} in {self._folder}{self.hint(name)}")
        return found

    def look_up(self, name: str) -> Path | None:
        """The file of that name, None if there is none. Raises EffkerasError like `find` for other faults."""
        parts = relative_parts(name)
        found = self._listing_of(parts[:-1]).find(parts[-1], self._suffixes)
        return found or self._in_similar_folders(parts)

    def hint(self, name: str) -> str:
        """The end of an error with the most similar name.

        It is "" after the first missing files and for long listings: comparing many names is slow.
        """
        parts = relative_parts(name)
        names = self._listing_of(parts[:-1]).names
        if not self._hints or len(names) > _MOST_COMPARED:
            return ""
        self._hints -= 1
        similar = closest(parts[-1], names)
        return f"; the most similar name there is {similar!r}" if similar else ""

    def _in_similar_folders(self, parts: tuple[str, ...]) -> Path | None:
        """Like `find` where the names of folders differ too."""
        folder = self._folder
        for part in parts[:-1]:
            similar = self._listing(folder).similar_folder(part)
            if similar is None:
                return None
            folder = similar
        return self._listing(folder).find(parts[-1], self._suffixes)

    def _listing_of(self, folders: tuple[str, ...]) -> _Listing:
        """The names in a folder below; by its parts, because to hash a path is slow."""
        if folders not in self._by_parts:
            self._by_parts[folders] = self._listing(self._folder.joinpath(*folders))
        return self._by_parts[folders]

    def _listing(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder)
        return self._listings[folder]


class FolderSearch:
    """Finds image files in several folders, also by the end of their path.

    Labels made elsewhere name images by a URL, such as gs://bucket/a/b.jpg, or from another folder on. Of a
    URL, and of a name that none of the folders has, the end is looked up: a/b.jpg, then b.jpg; of at most
    eight parts.

    Args:
        folders: where to look, in this order; those that do not exist are left out.
        suffixes: as for `ImageFinder`.
    """

    def __init__(self, folders: Iterable[Path], suffixes: Iterable[str] = ()) -> None:
        suffixes = tuple(suffixes)
        self._folders = [one for one in folders if one.is_dir()]
        self._finders = [ImageFinder(one, suffixes) for one in self._folders]
        self._names: dict[Path, str] = {}
        self._by_end: dict[Path, str] = {}

    def find(self, name: str) -> Path:
        """The file of that name.

        Raises EffkerasError like `ImageFinder.find`, and where two different paths have ends that lead to the
        same file.
        """
        plain = name.rpartition("://")[2].replace("\\", "/")
        for end in _ends(plain):
            found = next((path for finder in self._finders if (path := finder.look_up(end))), None)
            if found is not None:
                if len(end) < len(name):
                    self._by_end.setdefault(found, name)
                if self._names.setdefault(found, name) != name and found in self._by_end:
                    raise EffkerasError(f"{name!r} and {self._names[found]!r} both lead to {found}")
                return found
        where = " or ".join(map(str, self._folders))
        hint = next(filter(None, (finder.hint(end) for finder in self._finders)), "")
        raise EffkerasError(f"no image file {name!r} in {where}{hint}")

    def note_ends(self, where: str) -> None:
        """Notes how many images of the label file `where` were found by the end of their path, if any."""
        if self._by_end:
            path, name = next(iter(self._by_end.items()))
            count = len(self._by_end)
            note_once(
                f"{where}: {count} images are found by the end of their path; the first: {name} is {path}"
            )


def _ends(name: str) -> Iterator[str]:
    """The name and its ends: a/b/c.jpg, b/c.jpg, c.jpg."""
    yield name
    parts = name.split("/")
    for start in range(max(1, len(parts) - _MOST_PARTS), len(parts)):
        yield "/".join(parts[start:])


class _Listing:
    """The names in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names: set[str] = set()
        self._folders: set[str] = set()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (self._folders if entry.is_dir() else self.names).add(entry.name)
        except OSError:
            pass  # a folder that cannot be listed has no images
        self._similar: dict[str, list[str]] | None = None

    def find(self, name: str, suffixes: tuple[str, ...]) -> Path | None:
        for one in (name, *(name + suffix for suffix in suffixes)):
            if one in self.names:
                return self._folder / one
        fitting = [fit for one in (name, *(name + suffix for suffix in suffixes)) for fit in self._like(one)]
        if len(set(fitting)) > 1:
            raise EffkerasError(
                f"the image file {name!r} could be {' or '.join(sorted(map(repr, set(fitting))))} in "
                f"{self._folder}; correct the name"
            )
        return self._folder / fitting[0] if fitting else None

    def similar_folder(self, name: str) -> Path | None:
        if name in self._folders:
            return self._folder / name
        fitting = [one for one in self._folders if _key(one) == _key(name)]
        return self._folder / fitting[0] if len(fitting) == 1 else None

    def _like(self, name: str) -> list[str]:
        if self._similar is None:
            self._similar = {}
            for one in sorted(self.names):
                self._similar.setdefault(_key(one), []).append(one)
        return self._similar.get(_key(name), [])


def relative_parts(name: str) -> tuple[str, ...]:
    r"""The parts of a relative file name; backslashes separate like slashes.

    The check is on the name alone, so links inside a folder may lead anywhere. Raises EffkerasError for a
    name that is empty, absolute, has a drive letter, contains ".." or characters that no file name has.
    """
    is_plain = len(name) <= _LONGEST and not _SPECIAL.intersection(name)
    if is_plain and name not in ("", ".", ".."):
        return (name,)
    plain = name.replace("\\", "/")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if not parts or "\0" in name or len(name) > _LONGEST:
        raise EffkerasError(f"{name[:80]!r} is not a file name")
    if plain.startswith("/") or (len(parts[0]) == 2 and parts[0][1] == ":"):
        raise EffkerasError(f"the file name {name!r} is absolute; use names inside the data folder")
    if ".." in parts:
        raise EffkerasError(f"the file name {name!r} leads out of its folder; use names inside it")
    return parts


def first_bytes(path: Path, count: int = 1024) -> bytes:
    """The beginning of a file; b"" when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def unique_names(paths: Iterable[Path]) -> Mapping[Path, str]:
    """A file name for each path that is unique without its suffix and in any case: parents are added.

    `a/1.jpg` and `b/1.jpg` become `a_1.jpg` and `b_1.jpg`.
    """
    paths = list(dict.fromkeys(paths))
    names = {path: path.name for path in paths}
    for depth in range(1, max((len(path.parts) for path in paths), default=1)):
        taken: dict[str, list[Path]] = {}
        for path, name in names.items():
            taken.setdefault(_key(Path(name).stem), []).append(path)
        doubles = [path for group in taken.values() if len(group) > 1 for path in group]
        if not doubles:
            return names
        for path in doubles:
            names[path] = "_".join(path.parts[-depth - 1 :]).replace("/", "")
    return {path: f"{position:06d}_{path.name}" for position, path in enumerate(paths)}


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
