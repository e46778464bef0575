"""The 1,000 classes of ImageNet (ILSVRC 2012): their names, and WordNet's numbers, which name their folders.

The classes are ordered by WordNet's number, as in all published classifiers. The names are the first synonyms
of WordNet's synsets; the crane and the maillot, which occur twice, are told apart.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from effkeras.definitions.class_names import class_key
from effkeras.definitions.definition import BACKGROUND

CLASSES = 1000
_FILE = Path(__file__).with_name("imagenet.tsv")
_NUMBER = re.compile(r"n[0-9]{8}")


def class_names(count: int = CLASSES) -> tuple[str, ...]:
    """The names of the classes in order: 1,000, or 1,001 with the background first; () for other counts."""
    names = tuple(names_by_number().values())
    return {CLASSES: names, CLASSES + 1: (BACKGROUND, *names)}.get(count, ())


@functools.cache
def names_by_number() -> Mapping[str, str]:
    """The name of each class by WordNet's number: `n01440764` is the tench."""
    return dict(line.split("\t") for line in _FILE.read_text("utf-8").splitlines())


def class_identity(name: str) -> str:
    """The key of a class, as `class_key`; a number of WordNet stands for the name of ImageNet's class."""
    key = class_key(name)
    return names_by_number().get(key, key) if _NUMBER.fullmatch(key) else key
