"""What a pre-flight says to a person, in 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from effkeras.support.console import console, facts, printable
from export.preflight.judgement import Memory, Preflight, Verdict

LONGEST = 160  # characters of a name that the file chose
Row = tuple[str, str, str, str]


class SecondOpinion(Protocol):
    """What the vendor's own tool says of the same file."""

    @property
    def passed(self) -> bool:
        """False when the tool does not take the whole file."""

    def lines(self, found: Preflight) -> Iterable[tuple[str, str]]:
        """Names and values for the summary."""

    def to_row(self, found: Preflight) -> dict[str, Any]:
        """What it says, as a plain record."""


def show(name: str, found: Preflight, extra: SecondOpinion | None = None, *, every: bool = False) -> None:
    """Prints a summary and a table.

    The table lists operators of a kind that fare alike together, or with `every` one by one.
    """
    said = "runs all of it" if found.passed else "does not run all of it"
    lines = ((word, printable(value)) for word, value in _lines(found, extra))
    facts(f"{printable(name)}: the {found.table.device.name} {said}", lines)
    _print_table(_one_by_one(found.verdicts) if every else _grouped(found.verdicts))
    _print_sources(found)


def _lines(found: Preflight, extra: SecondOpinion | None) -> Iterator[tuple[str, str]]:
    taken = sum(one.on_device for one in found.verdicts)
    macs = sum(one.macs for one in found.verdicts)
    yield "operators", f"{taken} of {len(found.verdicts)} ({found.op_share:.1%})"
    yield "multiply-adds", f"{found.mac_share:.1%} of {macs / 1e6:,.0f} M"
    yield "partition", _partition(found)
    if found.memory is not None:
        yield "weights", _weights(found.memory)
    if found.doubts:
        yield "in doubt", f"{len(found.doubts)} operators may not map; they count as mapped"
    if extra is not None:
        yield from extra.lines(found)
    yield from (("what helps", advice) for advice in found.advice)
    yield "judged by", f"a table of {found.table.device.judged_by}"


def _partition(found: Preflight) -> str:
    if found.end is None:
        return "takes in everything" if found.passed else "takes in nothing"
    at = f"operator {found.end.index}, {_named(found.end.op)} ({_named(found.end.layer)})"
    if found.table.device.partition == "first":
        return f"ends at {at}; nothing that needs it runs on the device"
    return f"the largest of {found.pieces}; the first operator outside is {at}"


def _weights(memory: Memory) -> str:
    whole = f"{memory.weights / 1e6:.1f} MB, and {memory.capacity / 1e6:.1f} MB at most stay on the chip"
    if not memory.streamed:
        return f"{whole}: all do"
    return f"{whole}: {memory.streamed / 1e6:.1f} MB stream in at every run"


def _grouped(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    counts = Counter((one.op, one.status, one.why) for one in verdicts)
    seen = set()
    for one in verdicts:
        key = (one.op, one.status, one.why)
        if key not in seen:
            seen.add(key)
            yield _named(one.op), str(counts[key]), _place(one), _fate(one)


def _one_by_one(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    for one in verdicts:
        yield _named(one.op), str(one.index), _named(one.layer), _fate(one)


def _place(one: Verdict) -> str:
    return "" if one.status == "maps" else f"{one.index} {_named(one.layer)}"


def _fate(one: Verdict) -> str:
    return printable(f"{one.status}: {one.why}") if one.reasons else one.status


def _named(name: str) -> str:
    """A name that the file chose."""
    return printable(name, LONGEST)


def _print_table(rows: Iterable[Row]) -> None:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("operator")
    grid.add_column("", justify="right")
    grid.add_column("(first) at", overflow="fold", max_width=22)
    grid.add_column("what becomes of it", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console().print(grid)


def _print_sources(found: Preflight) -> None:
    broken = dict.fromkeys(reason.source for one in found.verdicts for reason in one.reasons)
    if broken:
        console().print("Why, by:")
    for key in broken:
        console().print(f"- {found.table.sources[key].title}")
