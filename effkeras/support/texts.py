"""Texts from files, made safe for a terminal."""

from __future__ import annotations

import re

# What is neither printable ASCII, a line break nor a tab; most texts have none of it.
_UNSAFE = re.compile(r"[^\n\t -~]+")


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
