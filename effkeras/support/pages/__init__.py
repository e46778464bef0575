"""Report pages: one self-contained HTML file, and the same as Markdown.

First the parts of a page, then how it is written; `templates/` holds the templates that all pages share.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from effkeras.support.drawing import DARK, LIGHT, Theme
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder, write_bytes, write_text

if TYPE_CHECKING:
    from jinja2 import Environment


# Table cells without a figure: nobody measured it, or the tool does not report it.
MISSING, NOT_REPORTED = "not measured", "not reported"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names the row. `note` explains how to read the table.

    Columns hold figures, aligned right, except the first column and those in `words`. A table that `folds`
    opens closed.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: frozenset[str] = frozenset()
    folds: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A PNG for light and for dark pages; `about` describes it for readers who cannot see it."""

    name: str
    about: str
    light: bytes
    dark: bytes


@dataclass(frozen=True, slots=True)
class Sheet:
    """A PNG with a title; `about` describes it for readers who cannot see it, `note` says how to read it."""

    title: str
    path: Path
    about: str
    note: str = ""


def drawn(name: str, about: str, draw: Callable[[Theme], bytes]) -> Chart:
    """A chart, drawn in both themes."""
    return Chart(name, about, draw(LIGHT), draw(DARK))


@dataclass(frozen=True, slots=True)
class Section:
    """Sentences, warnings, facts, charts, tables, commands and PNG files under one title.

    `samples` are small images side by side. Empty parts are not shown.
    """

    title: str
    says: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()
    samples: tuple[Path, ...] = ()
    sheets: tuple[Sheet, ...] = ()


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


_SHARED = "effkeras.support.pages"
_SPECIAL = re.compile(r"([\\`*_\[\]|~])")


def write_page(page: Page, out: Path, package: str, name: str) -> Path:
    """Writes report.html, report.md and the charts as PNG to a folder; returns the path of report.html.

    Args:
        page: the content.
        out: the folder; it is made.
        package: the package whose folder `templates` holds NAME.html.j2 and NAME.md.j2.
        name: the name of the two templates.

    Raises:
        EffkerasError: jinja2 is missing, a sample is no PNG, or a file cannot be written.
    """
    texts = {"report.md": _markdown(page, out, package, name), "report.html": _html(page, package, name)}
    make_folder(out)
    for chart in page.charts:
        write_bytes(out / f"{chart.name}.png", chart.light)
    for file, text in texts.items():
        write_text(out / file, text)
    return out / "report.html"


def _html(page: Page, package: str, name: str) -> str:
    """The page as one HTML file, without references to other files; every value is escaped."""
    environment = _environment(package, escape=True)
    environment.filters["inline"] = _inline
    environment.filters["image"] = lambda path: _inline(_png(path))
    return environment.get_template(f"{name}.html.j2").render(page=page)


def _markdown(page: Page, folder: Path, package: str, name: str) -> str:
    """The page as Markdown for a file in `folder`, which also holds the charts as NAME.png."""
    environment = _environment(package, escape=False)
    environment.filters["md"] = escaped
    environment.filters["link"] = lambda path: quote(Path(os.path.relpath(path, folder)).as_posix())
    return environment.get_template(f"{name}.md.j2").render(page=page)


def _inline(png: bytes) -> str:
    """A PNG as a data URL for an <img>."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _png(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}") from error
    if not content.startswith(b"\x89PNG"):
        raise EffkerasError(f"{path} is no PNG image; remove it, or leave them out with --images 0")
    return content


def escaped(text: str) -> str:
    """Text in one line, escaped so that Markdown shows it literally."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _environment(package: str, *, escape: bool) -> Environment:
    try:
        from jinja2 import ChoiceLoader, Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise EffkerasError('reports need jinja2; pip install "effkeras[report]"') from error
    environment = Environment(
        loader=ChoiceLoader([FunctionLoader(_Templates(one)) for one in (package, _SHARED)]),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["no_figures"] = (MISSING, NOT_REPORTED)
    return environment


class _Templates:
    """The templates of one package by name; None for a name that the package lacks."""

    def __init__(self, package: str) -> None:
        self._folder = files(package).joinpath("templates")

    def __call__(self, name: str) -> str | None:
        file = self._folder.joinpath(name)
        return file.read_text(encoding="utf-8") if file.is_file() else None
