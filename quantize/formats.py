"""Formats of artifacts: how they store weights and compute activations, read from `formats.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.tables import Table, read_toml, to_record, to_table

FILE = Path(__file__).with_name("formats.toml")

Weights = Literal["float32", "float16", "int8", "int4"]
Activations = Literal["float32", "int8", "int16"]
IoType = Literal["float32", "uint8", "int8"]


@dataclass(frozen=True, slots=True)
class Format:
    """How an artifact stores its weights and computes its activations.

    Operators named in `float_ops` stay in float, for the reason `float_why`.
    """

    name: str
    summary: str
    weights: Weights
    activations: Activations
    float_ops: tuple[str, ...] = ()
    float_why: str = ""

    @property
    def needs_data(self) -> bool:
        """Whether activation ranges must be calibrated on images."""
        return self.activations != "float32"

    @property
    def io_types(self) -> tuple[IoType, ...]:
        """The input and output types that the artifact can have."""
        return ("float32", "uint8", "int8") if self.activations == "int8" else ("float32",)

    def to_table(self) -> Table:
        """The format as a plain table, for reports."""
        return to_table(self)


def find(name: str | Format) -> Format:
    """Finds a format by its name; EffkerasError for an unknown one."""
    if isinstance(name, Format):
        return name
    known = _read()
    if name not in known:
        raise EffkerasError(f"there is no recipe {name!r}; {did_you_mean(name, known)}")
    return known[name]


def names() -> list[str]:
    """The names of all formats, from the least compression to the most."""
    return list(_read())


def check_io(format_: Format, io: str) -> None:
    """Raises EffkerasError when an artifact of this format cannot have inputs and outputs of type `io`."""
    if io in format_.io_types:
        return
    known: tuple[str, ...] = ("float32", "uint8", "int8")
    if io not in known:
        raise EffkerasError(f"there is no i/o type {io!r}; {did_you_mean(io, known)}")
    raise EffkerasError(
        f"the recipe {format_.name} computes activations in {format_.activations}, so its input and output "
        f"cannot be {io}; use --io float32, or --recipe int8"
    )


def _read() -> dict[str, Format]:
    tables = read_toml(FILE)
    return {
        name: to_record(Format, {"name": name, **table}, f"{FILE}: {name}") for name, table in tables.items()
    }
