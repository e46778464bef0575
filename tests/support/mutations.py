"""Damaged copies of a .tflite, the same for the same seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from effkeras.litert.flat_records import _Reader
from effkeras.litert.verify import _schema
from effkeras.support.errors import EffkerasError

# What lengths and offsets are replaced by; {size} is added as well.
ODD_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)
CODES = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}


@dataclass(frozen=True)
class Place:
    """A number in the file that its structure depends on."""

    position: int
    size: int


class _Recorder(_Reader):
    """Notes every number that reading a file depends on."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, _schema())
        self.places: list[Place] = []

    def _number(self, code: str, position: int):
        self.places.append(Place(position, struct.calcsize(code)))
        return super()._number(code, position)

    def _slots(self, position: int):
        used = super()._slots(position)
        directory = position - super()._number("<i", position)
        self.places += [Place(directory + 2 * word, 2) for word in range(2 + len(used))]
        return used


def places_of(model: bytes) -> list[Place]:
    """Where offsets, lengths, directories and numbers lie."""
    recorder = _Recorder(model)
    recorder.table("Model", recorder.target(0))
    return recorder.places


def mutations(model: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Names and contents of `count` damaged copies, all kinds of damage in turn."""
    places = places_of(model)
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        kind = list(KINDS)[number % len(KINDS)]
        yield f"{kind} {seed}-{number}", KINDS[kind](model, places, chance)


def _flip(model: bytes, places: list[Place], chance: random.Random) -> bytes:
    data = bytearray(model)
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _flip_structure(model: bytes, places: list[Place], chance: random.Random) -> bytes:
    data = bytearray(model)
    for place in chance.sample(places, 2):
        data[place.position + chance.randrange(place.size)] ^= 1 << chance.randrange(8)
    return bytes(data)


def _truncate(model: bytes, places: list[Place], chance: random.Random) -> bytes:
    return model[: chance.randrange(len(model))]


def _splice(model: bytes, places: list[Place], chance: random.Random) -> bytes:
    """A piece of the file over, into or out of another place."""
    length = chance.choice((1, 4, 16, 64, 1024))
    source, target = chance.randrange(len(model)), chance.randrange(len(model))
    piece = model[source : source + length]
    return model[:target] + chance.choice((piece, b"")) + model[target + chance.choice((0, length)) :]


def _odd_number(model: bytes, places: list[Place], chance: random.Random) -> bytes:
    data = bytearray(model)
    for place in chance.sample(places, chance.randint(1, 3)):
        value = chance.choice((*ODD_NUMBERS, len(model), len(model) - place.position))
        struct.pack_into(CODES[place.size], data, place.position, value % (1 << 8 * place.size))
    return bytes(data)


def _near_number(model: bytes, places: list[Place], chance: random.Random) -> bytes:
    """A number a little larger or smaller: the hardest to notice."""
    data = bytearray(model)
    place = chance.choice(places)
    (value,) = struct.unpack_from(CODES[place.size], data, place.position)
    value += chance.choice((-8, -4, -2, -1, 1, 2, 4, 8))
    struct.pack_into(CODES[place.size], data, place.position, value % (1 << 8 * place.size))
    return bytes(data)


def _redirect(model: bytes, places: list[Place], chance: random.Random) -> bytes:
    """An offset that leads to where another one leads."""
    data = bytearray(model)
    words = [place for place in places if place.size == 4]
    one, other = chance.sample(words, 2)
    (step,) = struct.unpack_from("<I", data, other.position)
    struct.pack_into("<I", data, one.position, (other.position + step - one.position) % (1 << 32))
    return bytes(data)


KINDS: dict[str, Callable[[bytes, list[Place], random.Random], bytes]] = {
    "flip": _flip,
    "flip structure": _flip_structure,
    "truncate": _truncate,
    "splice": _splice,
    "odd number": _odd_number,
    "near number": _near_number,
    "redirect": _redirect,
}


def outcome(check: Callable[[bytes], object], model: bytes) -> str:
    """ "read" or "refused"; whatever else a check raises is for the caller."""
    try:
        check(model)
    except EffkerasError:
        return "refused"
    return "read"
