"""Errors that a user can act on, and hints for their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12


class EffkerasError(ValueError):
    """Bad input: one line that says what is wrong, where, and what to do next.

    Commands print the line and exit with code 2; a script sees an ordinary exception.
    """


def first_line(error: BaseException) -> str:
    """The first line of another library's exception; the exception's class when it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word most similar to `word`, ignoring case; None when none is similar."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest known word, else the first known words."""
    names = sorted(known)
    close = closest(word, names)
    if close is not None:
        return f"did you mean {close!r}?"
    shown = ", ".join(names[:_LISTED])
    return f"known: {shown}" + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
