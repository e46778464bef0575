"""What the commands share: the names of verbs, the parser, and common options."""

from __future__ import annotations

import argparse
import contextvars
import importlib
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from effkeras.support.console import Shown, show_only, warn
from effkeras.support.errors import EffkerasError

MODEL_HELP = "a run folder, a .keras file, a name of `effkeras list`, or a TOML file"
ANY_HELP = f"{MODEL_HELP}; or an artifact: a .tflite file, a SavedModel folder"
# Packages with modules of verbs. quantize and export depend on effkeras; only this module names them.
_PACKAGES = ("effkeras.commands", "effkeras.search.reporting", "quantize", "export")
_VERB = re.compile(r'^VERB = Verb\(\s*"([^"\n]+)",\s*"([^"\n]+)",?\s*\)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verb:
    """The name by which a module of `effkeras.commands` runs, and its line in `effkeras --help`."""

    name: str
    help: str


class Parser(argparse.ArgumentParser):
    """An argument parser of a verb: bad options are one line and exit code 2, like all other bad input.

    It acts on -q and --json itself; the options that it returns do not have them.
    """

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The options; from now on the command prints what -q and --json leave."""
        if _only_builds.get():
            raise _Built(self)
        chosen = vars(super().parse_args(args, namespace))
        show_only(Shown(is_quiet=chosen.pop(_QUIET, False), is_json=chosen.pop(_JSON, False)))
        return argparse.Namespace(**chosen)

    def error(self, message: str) -> NoReturn:
        """Raises EffkerasError."""
        raise EffkerasError(f"{message} (see `{self.prog} --help`)")


_NARROW = 60  # columns
_QUIET, _JSON = "is_quiet", "is_json"
_only_builds: contextvars.ContextVar[bool] = contextvars.ContextVar("only_builds", default=False)


class _Built(BaseException):
    """Carries a parser out of the `main` that made it."""

    def __init__(self, made: Parser) -> None:
        super().__init__()
        self.made = made


class _Help(argparse.HelpFormatter):
    """Wraps texts, but not the indented lines of lists; on narrow screens the usage names no options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines()
        if not any(line.startswith("  ") for line in lines):
            return super()._fill_text(text, width, indent)
        return "\n".join(
            line if line.startswith("  ") else textwrap.fill(line, help_width()) for line in lines
        )

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        """Adds the usage; on narrow screens a short one."""
        if usage is None and help_width() < _NARROW:
            takes = [
                self._format_args(one, one.metavar or one.dest) for one in actions if not one.option_strings
            ]
            words = " ".join([self._prog, "[options]", *takes])
            usage = textwrap.fill(words, help_width() - len("usage: "), subsequent_indent="  ")
        super().add_usage(usage, actions, groups, prefix)


def parser_of(main: Callable[[Sequence[str]], object]) -> Parser:
    """The parser that the `main` of a verb makes; nothing else of it runs."""
    token = _only_builds.set(True)
    try:
        main([])
    except _Built as built:
        return built.made
    finally:
        _only_builds.reset(token)
    raise TypeError(f"{main} parses no options")


def parser(command: str, about: str) -> Parser:
    """A parser for the verb `command`, with -q."""
    made = Parser(prog=f"effkeras {command}", description=about, formatter_class=_Help)
    made.add_argument(
        "-q", "--quiet", dest=_QUIET, action="store_true", help="print results, warnings and errors only"
    )
    return made


def add_json(to: argparse.ArgumentParser) -> None:
    """Adds --json; the command hands its result to `effkeras.support.console.result`."""
    to.add_argument("--json", dest=_JSON, action="store_true", help="print the result as JSON")


def explained(word: str, meaning: str, width: int = 13) -> str:
    """A word and its meaning, for the end of a `--help`: as wide as the screen, and at most 80 columns."""
    start = f"  {word:<{width}} "
    if help_width() < 3 * len(start):
        return f"  {word}\n" + textwrap.indent(textwrap.fill(meaning, help_width() - 4), "    ")
    return textwrap.fill(meaning, help_width(), initial_indent=start, subsequent_indent=" " * len(start))


def help_width() -> int:
    """The width of a `--help` in columns: that of the screen, at most 80."""
    return max(20, min(80, shutil.get_terminal_size().columns))


def add_data(to: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds --data and how it is read: --skip-bad and --voc-one-based."""
    to.add_argument("--data", type=Path, required=required, metavar="DIR", help="labelled images")
    add_reading(to)


def add_reading(to: argparse.ArgumentParser) -> None:
    """Adds --skip-bad and --voc-one-based."""
    to.add_argument("--skip-bad", action="store_true", help="leave out bad annotations and images")
    add_one_based(to)


def add_one_based(to: argparse.ArgumentParser) -> None:
    """Adds --voc-one-based."""
    to.add_argument(
        "--voc-one-based",
        dest="one_based",
        action="store_true",
        help="xmin and ymin of Pascal VOC files count pixels from 1",
    )


def add_backbone(to: argparse.ArgumentParser) -> None:
    """Adds --backbone."""
    to.add_argument(
        "--backbone",
        metavar="NAME",
        help="a detector's network: a name or TOML file; a run or .keras file brings its weights too",
    )


def add_split(to: argparse.ArgumentParser) -> None:
    """Adds --split, None by default: test, else val."""
    to.add_argument("--split", help="the part of the data to use (default: test, else val)")


def add_weights(to: argparse.ArgumentParser) -> None:
    """Adds --weights."""
    to.add_argument("--weights", help="for a zoo name or TOML file: weights by name, or a file")


class Renamed(argparse.Action):
    """An option's name of the previous version: it says the new name, and does what that does."""

    current: argparse.Action

    @classmethod
    def of(cls, current: argparse.Action) -> type[Renamed]:
        """The action for an old name of `current`."""
        return type("Renamed", (cls,), {"current": current})

    def __call__(self, parser: Any, namespace: Any, values: Any, name: str | None = None) -> None:
        """Does what the new name does."""
        old, new = self.option_strings[0], self.current.option_strings[0]
        warn(f"{old} is now {new}; the next version will not read the old name")
        self.current(parser, namespace, values, name)


def add_old_name(to: argparse.ArgumentParser | argparse._ArgumentGroup, old: str, new: str) -> None:
    """Adds an option's name of the previous version, hidden; its use prints a note with the new name."""
    current = next(action for action in to._actions if new in action.option_strings)
    to.add_argument(
        old,
        action=Renamed.of(current),
        dest=current.dest,
        nargs=current.nargs,
        const=current.const,
        type=current.type or str,
        default=argparse.SUPPRESS,
        choices=current.choices,
        help=argparse.SUPPRESS,
    )


def above_zero(text: str) -> int:
    """An argparse type: a whole number above 0."""
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def not_negative(text: str) -> float:
    """An argparse type: a finite number that is 0 or above."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or above")
    return number


def height_and_width(text: str) -> tuple[int, int]:
    """An argparse type: a height and a width in pixels, such as 320x416; one number is a square."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise argparse.ArgumentTypeError(f"{text} is not a height and a width, such as 320x416")
    return int(sides[0]), int(sides[-1])


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
