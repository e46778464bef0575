"""What a delegate is to the benchmark: something that opens a .tflite and runs it, or says why it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.measurements import Latency
from effkeras.support.registry import Registry

if TYPE_CHECKING:
    from effkeras.litert.latency import Session

# What runs wherever LiteRT does: its CPU kernels with XNNPACK and without.
DEFAULT = ("xnnpack", "plain")
ANDROID = "android"


class UnusableError(EffkerasError):
    """A delegate that is here does not take this file, with its own reason."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A delegate that cannot be measured here, and why; `how_to_get` is empty where `reason` says it."""

    delegate: str
    reason: str
    how_to_get: str = ""

    @property
    def advice(self) -> str:
        """Why, and how to get it."""
        return f"{self.reason}. To get it: {self.how_to_get}" if self.how_to_get else self.reason


@dataclass(frozen=True, slots=True)
class BenchmarkCase:
    """A file's content for a delegate, by its name, on so many threads.

    `probed` runs it in a process of its own first, for its memory and because a driver may crash.
    """

    flatbuffer: bytes
    delegate: str
    threads: int = 1
    probed: bool = True


TimingResult = Latency | Absent


class Delegate(Protocol):
    """Something in this machine that runs a .tflite.

    `name` is its word on the command line, `title` what tables and rows call it, and `how_to_get` what to do
    where it is absent.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def how_to_get(self) -> str: ...  # noqa: D102

    @property
    def takes_threads(self) -> bool:
        """Whether the number of threads makes a difference to it."""

    def missing(self) -> str | None:
        """Why it cannot run here, as far as that shows without running anything; else None."""

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError when it is not taken, EffkerasError for a corrupt one."""


# The delegates of this machine, present or not; each module of export.delegates.host adds its own.
DELEGATES: Registry[Delegate] = Registry("delegate", "export.delegates.host")


def host_delegates() -> dict[str, Delegate]:
    """The delegates of this machine, whether they are here or not."""
    return DELEGATES.entries()


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
