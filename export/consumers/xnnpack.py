"""The consumer `xnnpack`: CPUs, with the whole network in one partition.

XNNPACK cannot convert between uint8 and int8, so uint8 inputs and outputs would stay outside the partition.
Feature maps too large for the cache are computed in strips of rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from export.consumers.consumer import add_consumer
from export.consumers.raw import OWN_CODE


def _in_row_tiles(network: bytes) -> bytes:
    from effkeras.litert.tiling import tile_rows

    return tile_rows(network)


def _problems(network: bytes) -> Iterator[str]:
    from effkeras.litert.runner import LiteRTModel

    taken = LiteRTModel.of_bytes(network).delegated()
    if (taken.delegated_ops, taken.partitions) != (taken.total_ops, 1):
        yield f"XNNPACK does not run the whole network in one piece, but {taken}; try another recipe or --io"


XNNPACK = add_consumer(
    dataclasses.replace(
        OWN_CODE,
        name="xnnpack",
        summary="CPUs: the whole network in one XNNPACK partition, or no file",
        io=("float32", "int8"),
        rewrite=_in_row_tiles,
        problems=_problems,
    )
)
