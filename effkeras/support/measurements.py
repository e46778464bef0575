"""Records of measurements of an artifact: delegation, latency, and the latency of each block.

Delegation and latency become result rows; a table of blocks is a TOML file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text
from effkeras.support.results import CheckedRow, Row
from effkeras.support.tables import read_toml, to_record, to_table


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


_SCHEMA = 1
# The name that stands for the whole network among blocks.
WHOLE_NETWORK = "(network)"

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlockShape:
    """A block of a network: its operators, and the shapes (B, H, W, C) that enter and leave it.

    `stage` is the block string of one block as `block_string` writes it, such as r1_k3_s2_e6_i16_o24_re6. It
    is "" for other blocks, except in the table of a space, which has its own strings for stems and heads.
    """

    name: str
    dtype: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    ops: int
    multiply_adds: int
    stage: str = ""


@dataclass(frozen=True, slots=True)
class BlockLatency:
    """The latency of a block by itself under one setting, in milliseconds; `block` may be WHOLE_NETWORK.

    `median_ms` and `p95_ms` are None where a tool does not report them.
    """

    block: str
    kernels: str
    threads: int
    min_ms: float
    mean_ms: float
    median_ms: float | None = None
    p95_ms: float | None = None

    @classmethod
    def of(cls, block: str, latency: Latency) -> BlockLatency:
        """The latency of a block, rounded to the microsecond."""
        times = latency.times()
        return cls(
            block,
            latency.kernels,
            latency.threads,
            round(latency.min_ms, 3),
            round(latency.mean_ms, 3),
            times["median_ms"],
            times["p95_ms"],
        )


@dataclass(frozen=True, slots=True)
class BlockTable:
    """All blocks of a network, timed in one run together with the whole network.

    `devices` names the device for each kind of kernels; `versions` holds the software versions.
    """

    model: str
    artifact: str
    devices: Mapping[str, str]
    versions: Mapping[str, str]
    runs: int
    blocks: tuple[BlockShape, ...]
    latencies: tuple[BlockLatency, ...]
    schema: int = _SCHEMA

    def settings(self) -> list[tuple[str, int]]:
        """The timed pairs of kernels and threads."""
        return list(dict.fromkeys((one.kernels, one.threads) for one in self.latencies))

    def find(self, stage: str, inputs: Sequence[int], setting: tuple[str, int]) -> BlockLatency | None:
        """The latency of a block with this block string and input shape, or None if the table lacks it.

        Args:
            stage: the block string, as in `BlockShape`.
            inputs: the shape (B, H, W, C) that enters it.
            setting: kernels and threads.
        """
        alike = {one.name for one in self.blocks if one.stage == stage and tuple(inputs) in one.inputs}
        return next((one for one in self.of(setting) if one.block in alike), None)

    def of(self, setting: tuple[str, int]) -> list[BlockLatency]:
        """The latencies under one setting, in the order of the network, the whole network last."""
        return [one for one in self.latencies if (one.kernels, one.threads) == setting]

    def coverage(self, setting: tuple[str, int]) -> float | None:
        """The blocks' summed mean latencies divided by the whole network's; None without the latter.

        About 1 means that latencies of blocks may be summed.
        """
        found = self.of(setting)
        whole = sum(one.mean_ms for one in found if one.block == WHOLE_NETWORK)
        parts = sum(one.mean_ms for one in found if one.block != WHOLE_NETWORK)
        return parts / whole if whole else None


def write_blocks(path: Path, table: BlockTable) -> None:
    """Writes a table as TOML; an interrupted write leaves no partial file."""
    write_text(path, tomli_w.dumps(to_table(table)))


def read_blocks(path: Path) -> BlockTable:
    """Reads a table of `write_blocks`; EffkerasError if the file is missing or is not such a table."""
    values = read_toml(path)
    if values.get("schema") != _SCHEMA:
        raise EffkerasError(
            f"{path} is no table of block latencies of schema {_SCHEMA}; make it with `effkeras search table`"
        )
    return to_record(
        BlockTable, {"devices": {}, "versions": {}, "blocks": [], "latencies": [], **values}, str(path)
    )
