"""The `effkeras` command: finds the module of a subcommand (verb) and runs it."""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from effkeras.support.ending import BAD_INPUT, ended
from effkeras.support.errors import did_you_mean
from effkeras.support.options import Command, commands

__all__ = ["Command", "commands", "main"]


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
    columns = max(20, min(80, shutil.get_terminal_size().columns))
    indent = " " * (width + 4)
    lines = [
        textwrap.fill(f"  {verb:<{width}}  {one.help}", columns, subsequent_indent=indent)
        for verb, one in shown.items()
    ]
    about = "(COMMAND --help shows its options)"
    intro = f"usage: effkeras COMMAND [options]     {about}"
    return "\n".join([*([intro] if columns >= len(intro) else [intro[:33], about]), "", *lines])
