"""Predicts the latency of a network as the sum of its blocks, from a table measured once on the target.

Rank correlations tell how well the predictions, or any two values, agree on the order of networks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.graph.mbconv import Block
from effkeras.graph.networks.blocks import (
    BlockNetwork,
    blocks_of,
    scale_head,
    scale_hidden,
    scale_stem,
)
from effkeras.search.genomes import Genome, Space, sample
from effkeras.support.errors import EffkerasError
from effkeras.support.measurements import BlockLatency, BlockTable, Shape, read_blocks

KERNELS = "XNNPACK"
STEM, HEAD = "stem", "head"
Values = Sequence[float] | np.ndarray


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a network that is timed separately, with its input and output shapes (1, H, W, C).

    `stage` is the block string of a block, as `block_string` writes it. A stem has "stem" and the
    activation, as in "stem_swish"; a head also has the widths of its layers, as in "head_swish_1280".
    """

    stage: str
    inputs: Shape
    outputs: Shape


@dataclass(frozen=True, slots=True)
class Place:
    """A piece at its place in a network: the stem, a block, or everything after the last block."""

    piece: Piece
    spec: ModelSpec
    block: Block | None = None


def is_of_blocks(spec: ModelSpec) -> bool:
    """Whether a model is a plain classifier of MBConv blocks, which a block table can predict."""
    return bool(spec.network.block_strings()) and not spec.is_detector and not spec.channels


def places_of(spec: ModelSpec) -> list[Place]:
    """The pieces of a classifier of MBConv blocks, in order; does not need TensorFlow.

    Raises EffkerasError for any other model.
    """
    network = BlockNetwork.match(spec.network)
    if network is None or not is_of_blocks(spec):
        raise EffkerasError(
            f"{spec.name} is no plain classifier of MBConv blocks, which a table of blocks can add up; "
            "use latency_ms"
        )
    height, width = (_halved(side) for side in spec.input.size)
    x: Shape = (1, height, width, scale_stem(network))
    places = [Place(Piece(f"{STEM}_{network.activation}", (1, *spec.input.size, 3), x), spec)]
    for block in blocks_of(network):
        height, width = (_halved(side) if block.stride == 2 else side for side in x[1:3])
        y: Shape = (1, height, width, block.outputs)
        places.append(Place(Piece(network.block_string(block), x, y), spec, block))
        x = y
    return [*places, Place(Piece(_head(network), x, (1, spec.classes)), spec)]


def predicted_ms(spec: ModelSpec, table: BlockTable, threads: int = 1) -> float:
    """Milliseconds of one inference: the sum of its pieces' medians in the table.

    Raises EffkerasError when the table lacks one.
    """
    return _times(table, threads).sum_of(spec)


def predicted_by(spec: ModelSpec, path: Path, threads: int = 1) -> float:
    """Like `predicted_ms`, from the file of a table, which is read again only after it has changed.

    Raises EffkerasError as `read_blocks` and `predicted_ms` do.
    """
    changed = path.stat().st_mtime if path.is_file() else 0.0
    return _times_at(path, changed, threads).sum_of(spec)


@dataclass(frozen=True, slots=True)
class _Times:
    """The medians of a table's pieces on `threads` threads, in milliseconds."""

    model: str
    threads: int
    pieces: Mapping[Piece, float]

    def sum_of(self, spec: ModelSpec) -> float:
        """The sum over all pieces of a network; raises EffkerasError when one is missing."""
        pieces = [place.piece for place in places_of(spec)]
        missing = next((piece for piece in pieces if piece not in self.pieces), None)
        if missing is not None:
            raise EffkerasError(
                f"the table of {self.model} has no {missing.stage} from {missing.inputs} to "
                f"{missing.outputs} on {self.threads} threads, as in {spec.name}; make it of this space, for "
                "these data, with `effkeras search table`"
            )
        return sum(self.pieces[piece] for piece in pieces)


@functools.lru_cache(maxsize=8)
def _times_at(path: Path, changed: float, threads: int) -> _Times:
    return _times(read_blocks(path), threads)


def draw_specs(
    space: Space, spec: Callable[[Genome], ModelSpec], count: int, seed: int = 0
) -> list[ModelSpec]:
    """The definitions of `count` random candidates of a space, drawn as in a random search."""
    random = np.random.default_rng(seed)
    return [spec(sample(space, random)) for _ in range(count)]


def distinct(specs: Iterable[ModelSpec]) -> list[Place]:
    """Every different piece of some networks once, in order of first occurrence."""
    found: dict[Piece, Place] = {}
    for spec in specs:
        for place in places_of(spec):
            found.setdefault(place.piece, place)
    return list(found.values())


def _times(table: BlockTable, threads: int) -> _Times:
    latencies = {one.block: one for one in table.of((KERNELS, threads))}
    pieces = {
        Piece(block.stage, block.inputs[0], block.outputs[0]): _median(latencies[block.name])
        for block in table.blocks
        if block.name in latencies and len(block.inputs) == len(block.outputs) == 1
    }
    return _Times(table.model, threads, pieces)


def _median(latency: BlockLatency) -> float:
    return latency.mean_ms if latency.median_ms is None else latency.median_ms


def _head(network: BlockNetwork) -> str:
    widths = [width for width in (scale_head(network), scale_hidden(network)) if width]
    return "_".join([HEAD, network.activation, *map(str, widths)])


def _halved(side: int) -> int:
    return -(-side // 2)


def kendall_tau(first: Values, second: Values) -> float:
    """Kendall's tau-b, -1..1, which handles ties; NaN when one of the two is constant.

    The number of concordant minus discordant pairs of candidates, divided by the geometric mean of the
    numbers of untied pairs in each (Kendall 1945).
    """
    one, other = (_orders(np.asarray(values, np.float64)) for values in (first, second))
    return _ratio(float((one * other).sum()), float(np.sqrt((one**2).sum() * (other**2).sum())))


def spearman(first: Values, second: Values) -> float:
    """Spearman's rank correlation, -1..1; ties get their mean rank; NaN when one of the two is constant."""
    one, other = (_centred(np.asarray(values, np.float64)) for values in (first, second))
    return _ratio(float((one * other).sum()), float(np.sqrt((one**2).sum() * (other**2).sum())))


@dataclass(frozen=True, slots=True)
class TableCheck:
    """Latencies of whole networks in milliseconds, predicted by a table and measured."""

    names: tuple[str, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def error(self) -> float:
        """The mean of |predicted / measured - 1|."""
        return float(np.mean(np.abs(self._ratios() - 1)))

    @property
    def bias(self) -> float:
        """The median of predicted / measured; a constant bias does not change the order of networks."""
        return float(np.median(self._ratios()))

    @property
    def kendall(self) -> float:
        """Kendall's tau between predicted and measured, 1 for the same order."""
        return kendall_tau(self.predicted, self.measured)

    @property
    def spearman(self) -> float:
        """Spearman's rank correlation between predicted and measured."""
        return spearman(self.predicted, self.measured)

    def _ratios(self) -> np.ndarray:
        return np.array(self.predicted) / np.array(self.measured)


def _orders(values: np.ndarray) -> np.ndarray:
    """For each pair of candidates -1, 0 or 1: (n * (n - 1) / 2,)."""
    rows, columns = np.triu_indices(len(values), 1)
    return np.sign(values[rows] - values[columns])


def _centred(values: np.ndarray) -> np.ndarray:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    alike = (values[None, :] == values[:, None]).sum(axis=1)
    ranks = below + (alike - 1) / 2
    return ranks - ranks.mean()


def _ratio(shared: float, most: float) -> float:
    return shared / most if most else float("nan")
