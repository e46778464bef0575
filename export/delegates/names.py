"""The delegates by the words of the command line."""

from __future__ import annotations

from collections.abc import Iterable

from effkeras.errors import EffkerasError, did_you_mean
from export.delegates.compiled_cpu import CompiledCpu
from export.delegates.compiled_gpu import CompiledGpu
from export.delegates.delegate import Delegate
from export.delegates.edgetpu import EdgeTpu
from export.delegates.interpreter_cpu import PLAIN, XNNPACK

ANDROID = "android"


def host_delegates() -> dict[str, Delegate]:
    """The delegates of this machine, whether they are here or not."""
    known: tuple[Delegate, ...] = (XNNPACK, PLAIN, CompiledCpu(), CompiledGpu(), EdgeTpu())
    return {one.name: one for one in known}


def known_names() -> list[str]:
    """All words that --delegate takes."""
    return [*host_delegates(), ANDROID]


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once. Raises EffkerasError for one that is not known."""
    known = known_names()
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in known:
            raise EffkerasError(f"there is no delegate {name!r}; {did_you_mean(name, known)}")
    return chosen
