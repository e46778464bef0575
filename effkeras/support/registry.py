"""Registries: the entries of a package by name, each registered by the module that implements it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from effkeras.support.errors import EffkerasError, did_you_mean

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name. The package's modules register them, and are imported on first use.

    A module adds an entry where it defines it:

        @AUGMENTATIONS.register("flip")
        class Flip: ...

    A module of another project registers in the same way, and its entry is found once it is imported.

    Args:
        what: the noun for an entry in errors, such as "augmentation".
        package: the package whose modules hold the entries, such as "effkeras.data.augmentations".
    """

    def __init__(self, what: str, package: str) -> None:
        self.what = what
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._is_complete = False

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """A decorator that adds an entry. Raises ValueError for a name that is taken."""

        def add(entry: Entry) -> Entry:
            if self._entries.get(name, entry) is not entry:
                raise ValueError(f"there are two {self.what}s named {name!r}")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> Entry:
        """The entry of that name. Raises EffkerasError for an unknown one, with the closest known name."""
        if name not in self._entries:
            self._import_all()
        if name not in self._entries:
            raise EffkerasError(f"there is no {self.what} {name!r}; {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def entries(self) -> dict[str, Entry]:
        """All entries by name, sorted."""
        self._import_all()
        return dict(sorted(self._entries.items()))

    def _import_all(self) -> None:
        if self._is_complete:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        self._is_complete = True
