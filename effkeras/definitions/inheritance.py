"""Inheritance of definitions: a `base`, the definition that a file overrides, and a detector's `backbone`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from effkeras.support.errors import EffkerasError
from effkeras.support.files import below
from effkeras.support.tables import Table, merge, read_toml

_ONLY_IN_FILES = ("base", "abstract")
_PIXELS = ("mean", "std")

# Identifies a file's state: modification time, size and inode; None for a missing file.
Stamp = tuple[int, int, int] | None


def stamp_of(path: Path) -> Stamp:
    """The state of a file now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@functools.lru_cache(maxsize=1024)
def _table(path: Path, stamp: Stamp) -> Table:
    """A file's table, parsed once per state of the file; callers must not change it."""
    return read_toml(path)


class Resolution:
    """The resolution of one definition; `files` are those it depends on, in their state before reading.

    Args:
        locate: finds the file of a definition by name; raises EffkerasError for an unknown name.
        given: tables that stand for the content of files.
    """

    def __init__(self, locate: Callable[[str], Path], given: Mapping[Path, Table]) -> None:
        self.files: dict[Path, Stamp] = {}
        self._locate = locate
        self._given = given

    def table(self, path: Path) -> Table:
        """The definition in a file as one table, with its bases and its backbone's network.

        Raises EffkerasError for a definition that cannot be read, is abstract, or is its own base.
        """
        table = self._expand_backbone(self._with_bases(path, ()), path)
        if table.get("abstract"):
            raise EffkerasError(f"{path} is abstract: build a definition that names it as base")
        return {key: value for key, value in table.items() if key not in _ONLY_IN_FILES}

    def _is_file(self, path: Path) -> bool:
        """Whether the file exists; the definition depends on the answer."""
        self.files[path.absolute()] = stamp_of(path)
        return path.is_file()

    def _found(self, path: Path, name: str, file: str) -> Path:
        """The file of a name in the definition `path`: `file` in its folder or below, else in the zoo.

        Raises EffkerasError for a name that leads elsewhere: a definition may come from anyone.
        """
        try:
            beside = below(path.parent, file)
        except EffkerasError as error:
            raise EffkerasError(f"{path}: {error}") from error
        return beside if self._is_file(beside) else self._locate(name)

    def _read(self, path: Path) -> Table:
        if path in self._given:
            return dict(self._given[path])
        stamp = self.files[path.absolute()] = stamp_of(path)
        return dict(_table(path, stamp))

    def _with_bases(self, path: Path, seen: tuple[Path, ...]) -> Table:
        if path in seen:
            chain = " -> ".join(str(one) for one in (*seen, path))
            raise EffkerasError(f"definitions name each other as base: {chain}")
        table = self._read(path)
        base = table.pop("base", None)
        if base is None:
            return table
        if not isinstance(base, str):
            raise EffkerasError(f"{path}: base must be the name of a definition, not {base!r}")
        parent = self._with_bases(self._found(path, base, f"{base}.toml"), (*seen, path))
        parent.pop("abstract", None)
        for key in ("published", "weights", "summary"):
            parent.pop(key, None)  # figures and weights belong to one model, not to models derived from it
        inherited, own = parent.get("backbone"), table.get("backbone")
        if inherited and isinstance(own, str) and own != inherited:
            parent = _without_network(parent)
        return merge(parent, table)

    def _expand_backbone(self, table: Table, path: Path) -> Table:
        backbone = table.get("backbone")
        if not backbone:
            return table
        own = table.get("network", {})
        if not isinstance(backbone, str) or not isinstance(own, dict):
            return table  # reading the record reports the error
        if "kind" in own:
            return table  # a resolved definition, as models carry it, already holds the whole network
        theirs = self._with_bases(self._found(path, backbone, backbone), (path,))
        if "network" not in theirs:
            raise EffkerasError(f"{path}: the backbone {backbone!r} has no network of its own")
        # Normalisation belongs to the backbone's weights, unless the detector states its own.
        pixels = {key: value for key, value in theirs.get("input", {}).items() if key in _PIXELS}
        merged = {"network": merge(theirs["network"], own), "input": merge(pixels, table.get("input", {}))}
        return {**table, **merged}


def _without_network(table: Table) -> Table:
    """A detector's table without the values that describe its previous backbone."""
    pixels = {key: value for key, value in table.get("input", {}).items() if key not in _PIXELS}
    rest = {key: value for key, value in table.items() if key not in ("network", "channels")}
    return {**rest, "input": pixels}
