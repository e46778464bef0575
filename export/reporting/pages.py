"""Writes a report's content as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from effkeras.support.errors import EffkerasError
from effkeras.support.pages.parts import Chart, Table
from effkeras.support.pages.rendering import html_templates, inline, markdown_templates


@dataclass(frozen=True, slots=True)
class Section:
    """The content of a report on one run."""

    title: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    missing: tuple[str, ...]
    samples: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The complete content of a report."""

    title: str
    intro: str
    charts: tuple[Chart, ...]
    sections: tuple[Section, ...]
    method: tuple[str, ...]
    limits: tuple[str, ...]
    setups: Table


def html(page: Page) -> str:
    """The page as a single HTML file, without scripts or references to other files."""
    pages = html_templates("export.reporting")
    pages.filters["image"] = lambda path: inline(_png(path))
    return pages.get_template("report.html.j2").render(page=page)


def markdown(page: Page, folder: Path) -> str:
    """The page as Markdown for a file in `folder`, which also holds the charts as NAME.png."""
    pages = markdown_templates("export.reporting")
    pages.filters["link"] = lambda path: quote(Path(os.path.relpath(path, folder)).as_posix())
    return pages.get_template("report.md.j2").render(page=page)


def _png(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}") from error
    if not content.startswith(b"\x89PNG"):
        raise EffkerasError(f"{path} is no PNG image; remove it, or leave samples out with --samples 0")
    return content
