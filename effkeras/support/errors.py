"""Errors that a user can act on, hints for their messages, and foreign texts made safe for a terminal."""

from __future__ import annotations

import contextlib
import difflib
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTED = 12
# What readers raise for a file that is cut off, overwritten or of another kind.
OF_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
_OF_OTHERS = 120  # characters of another library's message
# What is neither printable ASCII, a line break nor a tab; most texts have none of it.
_UNSAFE = re.compile(r"[^\n\t -~]+")


class EffkerasError(ValueError):
    """Bad input: one line that says what is wrong, where, and what to do next.

    Commands print the line and exit with code 2; a script sees an ordinary exception. The middle of a message
    that a file has made long is left out.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_shortened(one) if isinstance(one, str) else one for one in args))


_LONGEST, _KEPT = 4000, 500  # characters of a message; of the end of a longer one, which says what to do


def _shortened(message: str) -> str:
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST - _KEPT - 5]} ... {message[-_KEPT:]}"


def first_line(error: BaseException) -> str:
    """The first line of another library's exception; the exception's class when it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextlib.contextmanager
def reading_work(path: Path, cost: str) -> Iterator[None]:
    """Turns what goes wrong while a work file is read into one line that names it.

    `cost` completes "delete it, and ...": what is lost, or done again, without the file.
    """
    try:
        yield
    except OF_DAMAGE as error:
        raise _damaged(path, cost, error) from error


def _damaged(path: Path, cost: str, error: BaseException) -> EffkerasError:
    why = first_line(error).removeprefix(f"{path}: ")
    shown = why[:_OF_OTHERS] + ("..." if len(why) > _OF_OTHERS else "")
    return EffkerasError(f"{path} is damaged ({shown}); delete it, and {cost}")


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


def printable(text: str, longest: int | None = None) -> str:
    """A text from a file, safe for the terminal: no control codes, and cut after `longest` characters."""
    cut = text[:longest]
    shown = "".join(char if char.isprintable() else "?" for char in cut)
    return shown if cut == text else f"{shown}..."


def printable_lines(text: str) -> str:
    """Like `printable`, and keeps line breaks and tabs."""
    return text if text.isprintable() else _UNSAFE.sub(lambda found: printable(found[0]), text)


def in_one_line(text: str) -> str:
    """Like `printable`, with spaces for line breaks."""
    return printable(" ".join(text.splitlines()))
