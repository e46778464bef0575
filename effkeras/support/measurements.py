"""Records of measurements of an artifact: delegation and latency, with conversion to and from result rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from effkeras.support.results import CheckedRow, Row


@dataclass(frozen=True, slots=True)
class Delegation:
    """How much of a graph a delegate runs; None means that the runtime does not report it.

    `whole` is True when the delegate runs all operators. Some runtimes report this without a count.
    """

    total_ops: int
    delegated_ops: int | None = None
    partitions: int | None = None
    whole: bool | None = None

    @property
    def share(self) -> float:
        """The share of operators that the delegate runs, 0..1; 0 where the runtime does not report it."""
        return (self.delegated_ops or 0) / max(self.total_ops, 1)

    def __str__(self) -> str:
        """A phrase for sentences: "9 of 10 ops, 2 partitions"."""
        if self.delegated_ops is None:
            words = {True: "all", False: "not all", None: "an unknown part"}
            return f"{words[self.whole]} of {self.total_ops} ops"
        return f"{self.delegated_ops} of {self.total_ops} ops, {_partitions(self.partitions)}"

    def short(self) -> str:
        """A table cell: "63/65 in 2", "all", "part"; "-" where nothing is delegated or reported."""
        if self.delegated_ops is not None and self.partitions:
            return f"{self.delegated_ops}/{self.total_ops} in {self.partitions}"
        if self.delegated_ops == 0 or self.whole is None:
            return "-"
        return "all" if self.whole else f"part in {self.partitions}" if self.partitions else "part"

    def percent(self) -> str | None:
        """The share and the partitions, such as "97 %, 2 partitions"; None where nothing is reported."""
        if self.delegated_ops is None:
            return None
        if not self.delegated_ops:
            return "none"
        part = f"{100 * self.share:.0f} %"
        return part if self.partitions is None else f"{part}, {_partitions(self.partitions)}"

    def to_row(self) -> Row:
        """The counts, with the keys that all result rows use."""
        return {
            "total_ops": self.total_ops,
            "delegated_ops": self.delegated_ops,
            "partitions": self.partitions,
        }

    @classmethod
    def from_row(cls, row: CheckedRow) -> Delegation:
        """Reads a row of `to_row` or of `Latency.to_row`. Raises EffkerasError for a wrong value."""
        whole = row.values.get("wholly_delegated")
        return cls(
            row.whole("total_ops"),
            row.whole_or_none("delegated_ops"),
            row.whole_or_none("partitions"),
            whole if isinstance(whole, bool) else None,
        )


@dataclass(frozen=True, slots=True)
class Latency:
    """The distribution of single inferences in milliseconds, and the runtime that measured it.

    None means that the tool does not report the value. `delegate` is the delegate's name and `kernels` its
    title. `peak_bytes` is the most memory that the file and the delegate add to the process. `details` holds
    other values that the tool reports, such as the phone.
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
        """The median, or the mean where the tool reports no median."""
        return self.mean_ms if self.median_ms is None else self.median_ms

    def times(self) -> dict[str, float | None]:
        """The minimum, median, 95th percentile and mean, rounded to the microsecond."""
        values = {name: getattr(self, name) for name in ("min_ms", "median_ms", "p95_ms", "mean_ms")}
        return {name: None if value is None else round(value, 3) for name, value in values.items()}

    def to_row(self) -> Row:
        """The measurement as a plain table."""
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
        """Reads a row of `to_row`, of this or an older version. Raises EffkerasError for a wrong value."""
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
