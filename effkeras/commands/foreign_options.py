"""Options of the commands that run any .tflite: what the numbers of another tool's file mean."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effkeras.litert.foreign.options import ForeignOptions

_ABOUT = "what its TFLite Metadata leave open"


def add_foreign(to: argparse.ArgumentParser) -> None:
    """Adds --labels, --mean, --std and --classes-offset."""
    group = to.add_argument_group("a .tflite of another tool", _ABOUT)
    group.add_argument(
        "--labels",
        metavar="F",
        help="names of the classes: a text file with one a line, a label map (.pbtxt), or imagenet",
    )
    group.add_argument(
        "--mean",
        type=_numbers,
        metavar="M",
        help="subtracted from pixels 0..255: one number, or three for red, green and blue, as 1,2,3",
    )
    group.add_argument("--std", type=_numbers, metavar="S", help="what the difference is divided by")
    group.add_argument(
        "--classes-offset",
        type=int,
        metavar="N",
        help="the class, from 0, that the first label names: 1 where the background comes first",
    )


def foreign_options(chosen: argparse.Namespace) -> ForeignOptions:
    """What was chosen. Raises EffkerasError for a file of labels that cannot be read."""
    from effkeras.litert.foreign.labels import read_label_file
    from effkeras.litert.foreign.options import ForeignOptions

    labels = None if chosen.labels is None else read_label_file(chosen.labels)
    return ForeignOptions(labels, chosen.mean, chosen.std, chosen.classes_offset)


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(one) for one in text.split(","))
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text} is not one number, or three with commas between them")
    return values
