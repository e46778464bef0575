"""Times a network and each of its blocks in one run, and makes the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effkeras.definitions.definition import ModelSpec
from effkeras.litert.block_latency import WHOLE, BlockLatency, BlockTable
from effkeras.litert.latency import Plan
from effkeras.support import results
from effkeras.support.measurements import Latency
from export.delegates.blocks import BlockFile, cut
from export.delegates.choice import Choice, time_all
from export.delegates.timing import Outcome


@dataclass(frozen=True, eq=False, slots=True)
class Network:
    """A network to be timed block by block: a .tflite, its names, and its definition if it carries one."""

    flatbuffer: bytes
    model: str
    artifact: str
    spec: ModelSpec | None = None


def time_blocks(network: Network, choice: Choice, plan: Plan) -> tuple[list[Outcome], BlockTable]:
    """What the whole network takes on each delegate, and the table of its blocks.

    The network and all its blocks take turns. A block that a delegate does not take by itself is left out of
    the table under that setting.

    Raises EffkerasError for a corrupt file and for one that cannot be cut.
    """
    blocks = cut(network.flatbuffer, network.spec)
    names = [one.shape.name for one in blocks]
    whole, *parts = time_all([network.flatbuffer], choice, plan, [one.flatbuffer for one in blocks])
    return whole, _table(network, blocks, plan, [*zip(names, parts, strict=True), (WHOLE, whole)])


def _table(
    network: Network,
    blocks: Sequence[BlockFile],
    plan: Plan,
    outcomes: Sequence[tuple[str, Sequence[Outcome]]],
) -> BlockTable:
    timed = [(name, one) for name, found in outcomes for one in found if isinstance(one, Latency)]
    environment = results.environment()
    return BlockTable(
        network.model,
        network.artifact,
        {one.kernels: _device(one, environment["machine"]["cpu"]) for _, one in timed},
        {"python": environment["python"], **environment["versions"]},
        plan.runs,
        tuple(one.shape for one in blocks),
        tuple(BlockLatency.of(name, one) for name, one in timed),
    )


def _device(latency: Latency, cpu: str) -> str:
    """What ran it: a phone tells its model and system, everything else is this machine."""
    phone = latency.details.get("phone")
    return f"{phone['model']}, Android {phone['android']}" if phone else cpu
