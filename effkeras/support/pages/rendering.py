"""Template rendering: HTML without scripts or other files, and Markdown with special characters escaped."""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from effkeras.support.errors import EffkerasError
from effkeras.support.pages.parts import MISSING, NOT_REPORTED

if TYPE_CHECKING:
    from jinja2 import Environment

_SHARED = "effkeras.support.pages"
_SPECIAL = re.compile(r"([\\`*_\[\]|~])")


def html_templates(package: str) -> Environment:
    """The HTML templates of a package and the shared ones; every value is escaped.

    Raises EffkerasError without jinja2.
    """
    environment = _environment(package, escape=True)
    environment.filters["inline"] = inline
    return environment


def markdown_templates(package: str) -> Environment:
    """The Markdown templates, where the filter `md` escapes. Raises EffkerasError without jinja2."""
    environment = _environment(package, escape=False)
    environment.filters["md"] = escaped
    return environment


def inline(png: bytes) -> str:
    """A PNG as a data URL for an <img>."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


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
