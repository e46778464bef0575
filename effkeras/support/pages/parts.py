"""The parts of pages: tables of text, and charts for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from effkeras.support.drawing import DARK, LIGHT, Theme

# Table cells without a figure: nobody measured it, or the tool does not report it.
MISSING, NOT_REPORTED = "not measured", "not reported"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names the row. `note` explains how to read the table.

    Columns hold figures, aligned right, except the first column and those in `words`.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Chart:
    """A PNG for light and for dark pages; `about` describes it for readers who cannot see it."""

    name: str
    about: str
    light: bytes
    dark: bytes


def drawn(name: str, about: str, draw: Callable[[Theme], bytes]) -> Chart:
    """A chart, drawn in both themes."""
    return Chart(name, about, draw(LIGHT), draw(DARK))


@dataclass(frozen=True, slots=True)
class Section:
    """Sentences, warnings, facts, charts, tables and commands under one title; empty parts are not shown."""

    title: str
    says: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a report in order; `highlights` are the key figures at the top."""

    title: str
    intro: str
    highlights: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    reading: tuple[str, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts of the page."""
        return tuple(chart for section in self.sections for chart in section.charts)
