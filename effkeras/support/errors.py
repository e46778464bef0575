"""Errors that a user can act on, and how commands end when one is raised."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12


class EffkerasError(ValueError):
    """Bad input: one line that says what is wrong, where, and what to do next.

    Commands print the line and exit with code 2; a script sees an ordinary exception.
    """


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in a line; its kind when it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like another, in upper or lower case; None when none is."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suffix for an error message: the closest known word, else the first known ones."""
    names = sorted(known)
    close = closest(word, names)
    if close is not None:
        return f"did you mean {close!r}?"
    shown = ", ".join(names[:_LISTED])
    return f"known: {shown}" + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
