"""What the commands share: the names of verbs, the parser, and common options."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from effkeras.support.console import note
from effkeras.support.errors import EffkerasError

MODEL_HELP = "a run folder, a .keras file, a name of `effkeras list`, or a TOML file"
ANY_HELP = f"{MODEL_HELP}; or an artifact: a .tflite file, a SavedModel folder"


@dataclass(frozen=True, slots=True)
class Verb:
    """The name by which a module of `effkeras.commands` runs, and its line in `effkeras --help`."""

    name: str
    help: str


class Parser(argparse.ArgumentParser):
    """An argument parser that reports bad options like all other bad input: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raises EffkerasError."""
        raise EffkerasError(f"{message} (see `{self.prog} --help`)")


def parser(command: str, about: str) -> Parser:
    """A parser for the verb `command`."""
    return Parser(prog=f"effkeras {command}", description=about)


def explained(word: str, meaning: str, width: int = 13) -> str:
    """A word and its meaning, for the end of a `--help`: at most 80 columns wide."""
    start = f"  {word:<{width}} "
    return textwrap.fill(meaning, 80, initial_indent=start, subsequent_indent=" " * len(start))


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


def add_old_name(to: argparse.ArgumentParser | argparse._ArgumentGroup, old: str, new: str) -> None:
    """Adds an option's name of the previous version, hidden; its use prints a note with the new name."""
    new_option = next(action for action in to._actions if new in action.option_strings)

    class Renamed(argparse.Action):
        def __call__(
            self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
        ) -> None:
            note(f"{old} is now {new}; the next version will not read the old name")
            setattr(namespace, new_option.dest, values)

    to.add_argument(
        old, action=Renamed, dest=new_option.dest, type=new_option.type or str, help=argparse.SUPPRESS
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
