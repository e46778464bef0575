"""Names of classes: which are valid, when two are the same, and their natural order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from effkeras.support.errors import EffkerasError

_LONGEST = 200  # characters
_UNFIT = ("Cc", "Cs", "Zl", "Zp")  # Unicode's control characters, lone surrogates, line and paragraph breaks


def class_key(name: str) -> str:
    """The key that identifies a class: its name without surrounding spaces, in Unicode form NFC."""
    return unicodedata.normalize("NFC", name.strip())


def checked_class_name(name: str) -> str:
    """The name without surrounding spaces.

    Raises EffkerasError for a name that is empty, longer than 200 characters, or has line breaks, control
    characters or invalid Unicode. Files of labels have one name on a line, and such names would break them.
    """
    plain = name.strip()
    if not plain:
        raise EffkerasError("a class name is empty; name every class")
    if len(plain) > _LONGEST:
        raise EffkerasError(f"the class name {plain[:40]!r}... has {len(plain)} characters; shorten it")
    if not plain.isprintable() and any(unicodedata.category(char) in _UNFIT for char in plain):
        raise EffkerasError(f"the class name {plain!r} has control characters or line breaks; remove them")
    return plain


def checked_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Valid names of different classes, in the given order. Raises EffkerasError for others."""
    checked = tuple(checked_class_name(name) for name in names)
    seen: set[str] = set()
    for name in checked:
        if class_key(name) in seen:
            raise EffkerasError(f"two classes are named {name!r}; give each a name of its own")
        seen.add(class_key(name))
    return checked


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sorting key that compares runs of digits as numbers: 2 before 10."""
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]
