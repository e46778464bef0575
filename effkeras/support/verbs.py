"""The verbs of the `effkeras` command, found by the line that each of their modules states."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

# Packages with modules of verbs. quantize and export depend on effkeras; only this module names them.
_PACKAGES = ("effkeras.commands", "effkeras.search.reporting", "quantize", "export")
_VERB = re.compile(r'^VERB = Verb\(\s*"([^"\n]+)",\s*"([^"\n]+)",?\s*\)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Command:
    """The module of a verb, with `main(argv) -> int` that parses its own options, and the verb's help."""

    module: str
    help: str


def commands() -> dict[str, Command]:
    """The commands by verb, in alphabetical order.

    A module is a command if it has a line `VERB = Verb("train", "train a model on labelled images")`. The
    line is read as text, so that only the module of the requested verb is imported.
    """
    found = {}
    for name in _PACKAGES:
        for folder in importlib.import_module(name).__path__:
            for file in Path(folder).rglob("*.py"):
                line = _VERB.search(file.read_text(encoding="utf-8"))
                if line:
                    module = ".".join((name, *file.relative_to(folder).with_suffix("").parts))
                    found[line[1]] = Command(module, line[2])
    return dict(sorted(found.items()))
