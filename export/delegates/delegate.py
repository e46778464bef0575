"""The interface of a delegate: it opens and runs a .tflite, or reports why it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.measurements import Latency
from effkeras.support.registry import Registry

if TYPE_CHECKING:
    from effkeras.litert.latency import Session

# These run wherever LiteRT does: its CPU kernels with and without XNNPACK.
DEFAULT = ("xnnpack", "plain")
# A phone is not a delegate of the registry: its benchmark_model measures in its own process and reports
# statistics, where a `Delegate` opens sessions that are timed here in turns; and it stands for all of the
# phone's accelerators.
ANDROID = "android"


class UnusableError(EffkerasError):
    """A delegate is present but cannot run this file; the message has its reason."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A delegate that cannot be measured, and why; `how_to_get` is empty if `reason` includes it."""

    delegate: str
    reason: str
    how_to_get: str = ""

    @property
    def advice(self) -> str:
        """The reason, and how to get the delegate."""
        return f"{self.reason}. To get it: {self.how_to_get}" if self.how_to_get else self.reason


@dataclass(frozen=True, slots=True)
class BenchmarkCase:
    """A file's content to time on a delegate, given by name, with a number of threads.

    If `probed`, a separate process runs it first: to measure memory, and because a driver may crash. A
    delegate that has a process of its own needs none.
    """

    flatbuffer: bytes
    delegate: str
    threads: int = 1
    probed: bool = True


TimingResult = Latency | Absent


@runtime_checkable
class Described(Protocol):
    """A session that knows more about what runs it than its delegate does."""

    def details(self) -> Mapping[str, Any]:
        """Values for the `details` of a `Latency`, such as versions."""


@dataclass(frozen=True, slots=True)
class PhoneOptions:
    """The phone's serial number (None: the only phone connected) and the benchmark_model binary to run."""

    serial: str | None = None
    binary: Path | None = None


class Delegate(Protocol):
    """A way to run a .tflite on this machine.

    `name` is its name on the command line, `title` its name in tables and rows, and `how_to_get` tells what
    to do when it is absent.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def how_to_get(self) -> str: ...  # noqa: D102

    @property
    def takes_threads(self) -> bool:
        """Whether the number of threads makes a difference."""

    @property
    def in_process(self) -> bool:
        """Whether it runs in the process that opens it, whose memory then tells what it takes."""

    def missing(self) -> str | None:
        """Why it cannot run here, if that is visible without running anything; else None."""

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError if the delegate cannot run it, EffkerasError if corrupt."""


# The delegates of this machine, present or not; each module of export.delegates.host registers its own.
DELEGATES: Registry[Delegate] = Registry("delegate", "export.delegates.host")


def host_delegates() -> dict[str, Delegate]:
    """The delegates of this machine by name, whether present or not."""
    return DELEGATES.entries()


def known_names() -> list[str]:
    """All names that --delegate accepts."""
    return [*host_delegates(), ANDROID]


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names without duplicates. Raises EffkerasError for an unknown name."""
    known = known_names()
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in known:
            raise EffkerasError(f"there is no delegate {name!r}; {did_you_mean(name, known)}")
    return chosen
