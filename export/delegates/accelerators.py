"""The ways to run a file on a phone, from accelerators.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effkeras.support.tables import read_toml
from export.delegates.names import ANDROID

_TABLE = Path(__file__).with_name("accelerators.toml")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A way to run a file on the phone: flags of benchmark_model, and what its log calls the delegate."""

    name: str
    title: str
    flags: tuple[str, ...]
    logged: tuple[str, ...]
    takes_threads: bool
    advice: str


def accelerators() -> dict[str, Accelerator]:
    """The ways to run on a phone, by name."""
    return {
        name: Accelerator(
            f"{ANDROID}-{name}",
            entry["title"],
            tuple(entry["flags"]),
            tuple(entry["logged"]),
            entry["takes_threads"],
            entry["advice"],
        )
        for name, entry in read_toml(_TABLE).items()
    }
