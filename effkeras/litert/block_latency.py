"""Latency of each block on a device: of one network (`export.bench --blocks`), or of a whole search space.

`effkeras search table` writes the table of a space. There, the stem and the head of each network are blocks
too, so that a search for low latency can add them up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text
from effkeras.support.measurements import Latency
from effkeras.support.tables import read_toml, to_record, to_table

SCHEMA = 1
# The block name for a latency of the whole network.
WHOLE = "(network)"

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
    """The latency of a block by itself under one setting, in milliseconds; `block` may be WHOLE.

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
    schema: int = SCHEMA

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
        whole = sum(one.mean_ms for one in found if one.block == WHOLE)
        parts = sum(one.mean_ms for one in found if one.block != WHOLE)
        return parts / whole if whole else None


def write_blocks(path: Path, table: BlockTable) -> None:
    """Writes a table as TOML; an interrupted write leaves no partial file."""
    write_text(path, tomli_w.dumps(to_table(table)))


def read_blocks(path: Path) -> BlockTable:
    """Reads a table of `write_blocks`; EffkerasError if the file is missing or is not such a table."""
    values = read_toml(path)
    if values.get("schema") != SCHEMA:
        raise EffkerasError(
            f"{path} is no table of block latencies of schema {SCHEMA}; make it with `effkeras search table`"
        )
    return to_record(
        BlockTable, {"devices": {}, "versions": {}, "blocks": [], "latencies": [], **values}, str(path)
    )
