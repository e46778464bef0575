"""The delegates by the words of the command line."""

from __future__ import annotations

from collections.abc import Iterable

from effkeras.support.errors import EffkerasError, did_you_mean
from export.delegates.delegate import DELEGATES, Delegate

ANDROID = "android"


def host_delegates() -> dict[str, Delegate]:
    """The delegates of this machine, whether they are here or not."""
    return DELEGATES.entries()


def known_names() -> list[str]:
    """All words that --delegate takes."""
    return [*host_delegates(), ANDROID]


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once. Raises EffkerasError for one that is not known."""
    known = known_names()
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in known:
            raise EffkerasError(f"there is no delegate {name!r}; {did_you_mean(name, known)}")
    return chosen
