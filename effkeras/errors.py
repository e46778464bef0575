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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suffix for an error message: the closest known word, else the first known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:_LISTED])
    return f"known: {shown}" + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
