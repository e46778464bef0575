"""Writes what is said of searches as one self-contained HTML page and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.pages.parts import Chart, Table
from effkeras.pages.rendering import html_templates, markdown_templates

_PACKAGE = "effkeras.search.reporting"


@dataclass(frozen=True, slots=True)
class Section:
    """Sentences, warnings, pictures, tables and commands under one title; only what there is."""

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
        """All pictures."""
        return tuple(chart for section in self.sections for chart in section.charts)


def html(page: Page) -> str:
    """The page as HTML that needs no other file and no script; EffkerasError without jinja2."""
    return html_templates(_PACKAGE).get_template("search.html.j2").render(page=page)


def markdown(page: Page) -> str:
    """The page as Markdown beside the charts NAME.png; EffkerasError without jinja2."""
    return markdown_templates(_PACKAGE).get_template("search.md.j2").render(page=page)
