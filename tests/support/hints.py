"""What our own parsers say to commands that the program prints."""

from __future__ import annotations

import functools
import importlib
import re
import shlex

from effkeras.support.options import Parser, commands, parser_of


@functools.cache
def parsers() -> dict[str, Parser]:
    """The parser of each verb."""
    return {verb: parser_of(importlib.import_module(one.module).main) for verb, one in commands().items()}


def verb_of(words: list[str]) -> tuple[str, list[str]]:
    """The verb of the words after `effkeras`, and the words after it; KeyError if there is none."""
    for length in (2, 1):
        if " ".join(words[:length]) in commands():
            return " ".join(words[:length]), words[length:]
    raise KeyError(words)


def check_hint(command: str) -> None:
    """Parses the command of a printed hint; EffkerasError if it could not be run as it is printed."""
    program, *words = shlex.split(command)
    assert program == "effkeras", command
    assert not re.search(r" (?:DIR|RUN|OUT|FILE|MS)\b", command), f"{command}: a name to be filled in"
    verb, options = verb_of(words)
    super(Parser, parsers()[verb]).parse_args(options)


def check_mention(text: str) -> None:
    """Checks verb and options of a command that a sentence names, which may leave some of it out."""
    verb, words = verb_of(text.split()[1:])
    known = {name for action in parsers()[verb]._actions for name in action.option_strings}
    unknown = {word for word in words if word.startswith("-")} - known
    assert not unknown, f"{text}: {unknown}"
