"""`effkeras completion SHELL`: prints a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effkeras.definitions.zoo import list_models
from effkeras.support.console import run_command
from effkeras.support.options import Parser, Verb, commands, parser, parser_of

VERB = Verb("completion", "a script that completes commands in your shell")
_ABOUT = """Prints a script that completes commands, options, their values, names of models and files.
For bash: effkeras completion bash > ~/.local/share/bash-completion/completions/effkeras"""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a script."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    import shtab

    options = parser(VERB.name, _ABOUT)
    options.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell that is to read it")
    chosen = options.parse_args(argv)
    print(shtab.complete(_all_verbs(), chosen.shell))


def _all_verbs() -> argparse.ArgumentParser:
    """One parser whose subcommands are all verbs; `search` is a verb and a group of verbs."""
    root = argparse.ArgumentParser(prog="effkeras")
    root.add_argument("--version", action="store_true", help="print the version")
    verbs = root.add_subparsers()
    known, names = commands(), _models()
    made = {
        verb: _marked(parser_of(importlib.import_module(one.module).main), names)
        for verb, one in known.items()
    }
    for first in dict.fromkeys(verb.split()[0] for verb in known):
        members = {verb.split()[1]: verb for verb in known if verb.startswith(f"{first} ")}
        parents: list[argparse.ArgumentParser] = [made[first]] if first in known else []
        if members:
            group = argparse.ArgumentParser(add_help=False)
            inside = group.add_subparsers()
            for word, verb in members.items():
                inside.add_parser(word, parents=[made[verb]], add_help=False, help=known[verb].help)
            parents = [group, *parents]
        about = known[first].help if first in known else ", ".join(members)
        verbs.add_parser(first, parents=parents, add_help=False, help=about)
    return root


def _marked(made: Parser, models: dict[str, Any]) -> Parser:
    """The parser of a verb, whose actions say how shtab completes them: models as `models` says."""
    import shtab

    for action in made._actions:
        if action.dest in ("model", "backbone"):
            action.complete = models  # type: ignore[attr-defined]
        elif action.type is Path:
            is_folder = action.metavar in ("DIR", "RUN", "DST")
            action.complete = shtab.DIRECTORY if is_folder else shtab.FILE  # type: ignore[attr-defined]
    return made


def _models() -> dict[str, Any]:
    """Names of the zoo beside files; where shtab knows no way to mix them, files."""
    import shtab

    names = " ".join(list_models())
    of_bash = f'_effkeras_models() {{\n  compgen -W "{names}" -- "$1"\n  _shtab_compgen_files "$1"\n}}'
    of_zsh = f'_effkeras_models() {{\n  _alternative "models:model:({names})" "files:file:_files"\n}}'
    own = {"bash": "_effkeras_models", "zsh": "_effkeras_models"}
    return {**shtab.FILE, **own, "preamble": {"bash": of_bash, "zsh": of_zsh}}
