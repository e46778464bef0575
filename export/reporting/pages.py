"""Writes a report's content as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from effkeras.errors import EffkerasError
from export.reporting.panels import Chart
from export.reporting.tables import MISSING, Table

if TYPE_CHECKING:
    from jinja2 import Environment

_SPECIAL = re.compile(r"([\\`*_\[\]|~])")


@dataclass(frozen=True, slots=True)
class Section:
    """What is said of one run."""

    title: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    missing: tuple[str, ...]
    samples: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that a report shows, in order."""

    title: str
    intro: str
    charts: tuple[Chart, ...]
    sections: tuple[Section, ...]
    method: tuple[str, ...]
    limits: tuple[str, ...]
    setups: Table


def html(page: Page) -> str:
    """The page as HTML that needs no other file and no script."""
    pages = _environment(escape=True)
    pages.filters["inline"] = _inline
    pages.filters["picture"] = lambda path: _inline(_png(path))
    return pages.get_template("report.html.j2").render(page=page, missing=MISSING)


def markdown(page: Page, folder: Path) -> str:
    """The page as Markdown in `folder`, where the charts lie as NAME.png."""
    pages = _environment(escape=False)
    pages.filters["md"] = _escaped
    pages.filters["link"] = lambda path: quote(Path(os.path.relpath(path, folder)).as_posix())
    return pages.get_template("report.md.j2").render(page=page)


def _environment(*, escape: bool) -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise EffkerasError('reports need jinja2; pip install "effkeras[report]"') from error
    return Environment(
        loader=FunctionLoader(_template),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _template(name: str) -> str:
    return files("export.reporting").joinpath("templates", name).read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _inline(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _png(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}") from error
    if not content.startswith(b"\x89PNG"):
        raise EffkerasError(f"{path} is no PNG picture; remove it, or leave samples out with --samples 0")
    return content
