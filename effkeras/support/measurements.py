"""The records of what is measured of an artifact: its delegation and its latency, to rows and from rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from effkeras.support.results import CheckedRow, Row


@dataclass(frozen=True, slots=True)
class Delegation:
    """How much of a graph a delegate runs; None is what the runtime does not report.

    `whole` says whether it runs everything, which a runtime may report where it does not count.
    """

    total_ops: int
    delegated_ops: int | None = None
    partitions: int | None = None
    whole: bool | None = None

    @property
    def share(self) -> float:
        """The part of the operators that the delegate runs, 0..1; 0 where it is not reported."""
        return (self.delegated_ops or 0) / max(self.total_ops, 1)

    def __str__(self) -> str:
        """A sentence's part: "9 of 10 ops, 2 partitions"."""
        if self.delegated_ops is None:
            words = {True: "all", False: "not all", None: "an unknown part"}
            return f"{words[self.whole]} of {self.total_ops} ops"
        return f"{self.delegated_ops} of {self.total_ops} ops, {_partitions(self.partitions)}"

    def short(self) -> str:
        """A column's cell: "63/65 in 2", "all", "part"; "-" where nothing is delegated or reported."""
        if self.delegated_ops is not None and self.partitions:
            return f"{self.delegated_ops}/{self.total_ops} in {self.partitions}"
        if self.delegated_ops == 0 or self.whole is None:
            return "-"
        return "all" if self.whole else f"part in {self.partitions}" if self.partitions else "part"

    def percent(self) -> str | None:
        """The share and the partitions, such as "97 %, 2 partitions"; None where it is not reported."""
        if self.delegated_ops is None:
            return None
        if not self.delegated_ops:
            return "none"
        part = f"{100 * self.share:.0f} %"
        return part if self.partitions is None else f"{part}, {_partitions(self.partitions)}"

    def to_row(self) -> Row:
        """The counts, as rows of every kind have them."""
        return {
            "total_ops": self.total_ops,
            "delegated_ops": self.delegated_ops,
            "partitions": self.partitions,
        }

    @classmethod
    def from_row(cls, row: CheckedRow) -> Delegation:
        """Reads what `to_row` of this or of `Latency` wrote. Raises EffkerasError for a wrong value."""
        whole = row.values.get("wholly_delegated")
        return cls(
            row.whole("total_ops"),
            row.whole_or_none("delegated_ops"),
            row.whole_or_none("partitions"),
            whole if isinstance(whole, bool) else None,
        )


@dataclass(frozen=True, slots=True)
class Latency:
    """The distribution of single inferences in milliseconds, and what ran them.

    None is what a tool does not report. `delegate` is the delegate's name and `kernels` its title.
    `peak_bytes` is the memory that file and delegate add to the process at most. `details` is what else a
    tool reports, such as the phone.
    """

    delegate: str
    kernels: str
    threads: int
    runs: int
    warmup: int
    min_ms: float
    mean_ms: float
    median_ms: float | None
    p95_ms: float | None
    delegation: Delegation
    peak_bytes: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def typical_ms(self) -> float:
        """The median; the mean where the tool reports no median."""
        return self.mean_ms if self.median_ms is None else self.median_ms

    def times(self) -> dict[str, float | None]:
        """The distribution alone, to the microsecond."""
        values = {name: getattr(self, name) for name in ("min_ms", "median_ms", "p95_ms", "mean_ms")}
        return {name: None if value is None else round(value, 3) for name, value in values.items()}

    def to_row(self) -> Row:
        """The measurement as a plain record."""
        return {
            "delegate": self.delegate,
            "kernels": self.kernels,
            "threads": self.threads,
            "runs": self.runs,
            "warmup": self.warmup,
            **self.times(),
            **self.delegation.to_row(),
            "wholly_delegated": self.delegation.whole,
            "peak_bytes": self.peak_bytes,
            **self.details,
        }

    @classmethod
    def from_row(cls, row: CheckedRow) -> Latency:
        """Reads what `to_row` wrote, now or years ago. Raises EffkerasError for a wrong value."""
        known = {*cls.__dataclass_fields__, "total_ops", "delegated_ops", "partitions", "wholly_delegated"}
        return cls(
            row.text("delegate") if row.has("delegate") else "",
            row.text("kernels"),
            row.whole("threads"),
            row.whole("runs"),
            row.whole_or_none("warmup") or 0,
            row.number("min_ms"),
            row.number("mean_ms"),
            row.number_or_none("median_ms"),
            row.number_or_none("p95_ms"),
            Delegation.from_row(row),
            row.whole_or_none("peak_bytes"),
            {key: value for key, value in row.values.items() if key not in known},
        )


def _partitions(number: int | None) -> str:
    return "1 partition" if number == 1 else f"{number} partitions"
