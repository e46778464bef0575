"""What pages are made of: tables of text, and images for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from effkeras.support.drawing import DARK, LIGHT, Theme

# What stands in a table in place of a figure: it was not measured, or by a tool that does not say it.
MISSING, NOT_TOLD = "not measured", "not told"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names the row. `note` says what one needs to read it.

    Columns hold figures, to be read from the right, but for the first one and those that `words` names.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Chart:
    """A PNG for light and for dark pages, and what it shows, for those who cannot see it."""

    name: str
    about: str
    light: bytes
    dark: bytes


def drawn(name: str, about: str, draw: Callable[[Theme], bytes]) -> Chart:
    """A chart, drawn in both themes."""
    return Chart(name, about, draw(LIGHT), draw(DARK))


@dataclass(frozen=True, slots=True)
class Section:
    """Sentences, warnings, images, tables and commands under one title; only what there is."""

    title: str
    says: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that a report shows, in order; `highlights` are the figures to see first."""

    title: str
    intro: str
    highlights: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    reading: tuple[str, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All images."""
        return tuple(chart for section in self.sections for chart in section.charts)
