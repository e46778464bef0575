"""What a reader of the campaign is, and what several of them need."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.damage import Damage


@dataclass(frozen=True)
class Reader:
    """How a good file is made in a folder, how it is read, and the damages of its own kind."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    layers: Sequence[Damage] = ()


def with_text(name: str, content: str) -> Callable[[Path], Path]:
    """Makes a text file."""

    def make(folder: Path) -> Path:
        (folder / name).write_text(content, "utf-8")
        return folder / name

    return make


def damage_flatbuffer(content: bytes, chance: random.Random) -> bytes:
    """A .tflite with damage where its structure is."""
    from support.mutations import KINDS

    return chance.choice(list(KINDS.values()))(content, _places(content), chance)


@functools.lru_cache(maxsize=4)
def _places(content: bytes) -> Any:
    from support.mutations import places_of

    return places_of(content)
