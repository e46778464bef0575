"""The parts of pages: tables of text, and charts for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    """Sentences, warnings, facts, charts, tables, commands and PNG files under one title.

    Empty parts are not shown.
    """

    title: str
    says: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()
    samples: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a report in order.

    `highlights` are the key figures and `overview` the charts at the top. `reading` tells how to read the
    page or how its figures were measured, `limits` what they do not show, and `setups` on which machines.
    """

    title: str
    intro: str
    sections: tuple[Section, ...]
    reading: tuple[str, ...]
    highlights: tuple[tuple[str, str], ...] = ()
    overview: tuple[Chart, ...] = ()
    limits: tuple[str, ...] = ()
    setups: Table | None = None

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts of the page."""
        return (*self.overview, *(chart for section in self.sections for chart in section.charts))
