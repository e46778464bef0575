"""The `effkeras` command: finds the module of a subcommand (verb) and runs it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.support.ending import BAD_INPUT, ended
from effkeras.support.errors import did_you_mean

# Packages with modules of verbs. quantize and export depend on effkeras; only this module refers to them.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code (0 done, 1 a check failed, 2 bad input)."""
    words = list(sys.argv[1:] if argv is None else argv)
    return ended(lambda: _main(words))


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        from effkeras import __version__

        print(f"effkeras {__version__}")
        return 0
    return _run(words)


def _run(words: list[str]) -> int:
    known = commands()
    for length in (2, 1):
        verb = " ".join(words[:length])
        if verb in known:
            return importlib.import_module(known[verb].module).main(words[length:])  # type: ignore[no-any-return]
    group = [verb for verb in known if verb.startswith(f"{words[0]} ")]
    if group and words[1:] in ([], ["-h"], ["--help"]):
        print(_usage(group))
        return 0
    tried = " ".join(words[: 2 if group else 1])
    print(f"error: there is no command {tried!r}; {did_you_mean(tried, group or known)}", file=sys.stderr)
    return BAD_INPUT


def _usage(verbs: Iterable[str] = ()) -> str:
    """The usage with these verbs, or all."""
    known = commands()
    shown = {verb: known[verb] for verb in verbs or known}
    width = max(map(len, shown))
    lines = [f"  {verb:<{width}}  {one.help}" for verb, one in shown.items()]
    intro = "usage: effkeras COMMAND [options]     (COMMAND --help shows its options)\n"
    return "\n".join([intro, *lines])
