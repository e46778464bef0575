"""Our NASNet layers under the names that `keras.applications` gives them (NASNetMobile, NASNetLarge).

The weights of a layer bear the same names in both.
"""

from __future__ import annotations

from collections.abc import Iterator

from effkeras import zoo
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.genotype import OPERATIONS
from effkeras.graph.cell import PlacedCell
from effkeras.graph.cell_network import cells_of
from effkeras.networks import CellNetwork

_CONV = ("kernel",)
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel")
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_DENSE = ("kernel", "bias")

Named = Iterator[tuple[str, str, tuple[str, ...]]]


def nasnet_names(spec: ModelSpec) -> dict[tuple[str, str], str]:
    """The `keras.applications` layer of each of our weights: (layer, weight) -> their layer.

    Weights that a layer may lack are listed too; look up those that the model has.

    Raises:
        EffkerasError: the definition's cells or stem are not those of NASNetMobile and NASNetLarge.
    """
    network = spec.network
    theirs = zoo.spec("nasnet-mobile").network
    if not isinstance(network, CellNetwork) or not isinstance(theirs, CellNetwork):
        raise EffkerasError(f"{spec.name} is no network of cells; only NASNets have these names")
    for part in ("normal", "reduction", "stem_cells"):
        if getattr(network, part) != getattr(theirs, part):
            raise EffkerasError(f"{spec.name}: keras.applications has no NASNet with such {part}")
    return {(layer, weight): name for layer, name, weights in _layers(network) for weight in weights}


def _layers(network: CellNetwork) -> Named:
    yield "stem_conv", "stem_conv1", _CONV
    yield "stem_bn", "stem_bn1", _BATCH_NORM
    for place in cells_of(network):
        yield from _cell(place, _block_id(place.name, network.repeats))
    yield "logits", "predictions", _DENSE


def _block_id(name: str, repeats: int) -> str:
    """What their names of a cell's layers end with: they count the cells, one reduction included."""
    kind, index = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if kind == "stem":
        return f"stem_{index + 1}"
    if kind == "reduction":
        return f"reduce_{(index + 1) * repeats}"
    return str(index if index < repeats else index + 1)


def _cell(place: PlacedCell, block: str) -> Named:
    ours, kind = place.name, "reduction" if place.stride == 2 else "normal"
    yield f"{ours}_h_conv", f"{kind}_conv_1_{block}", _CONV
    yield f"{ours}_h_bn", f"{kind}_bn_1_{block}", _BATCH_NORM
    yield f"{ours}_p_conv", f"adjust_conv_projection_{block}", _CONV
    yield f"{ours}_p_even_conv", f"adjust_conv_1_{block}", _CONV
    yield f"{ours}_p_odd_conv", f"adjust_conv_2_{block}", _CONV
    yield f"{ours}_p_bn", f"adjust_bn_{block}", _BATCH_NORM
    for index, node in enumerate(place.cell.nodes):
        for side, branch in zip(("left", "right"), node, strict=True):
            if OPERATIONS[branch.op].kind == "separable":
                # The fifth left operation of their reduction cell is named like the fourth.
                number = 4 if (kind, index, side) == ("reduction", 4, "left") else index + 1
                yield from _separable(f"{ours}_node{index}_{side}", f"{kind}_{side}{number}_{block}")


def _separable(ours: str, theirs: str) -> Named:
    for step in range(2):
        yield f"{ours}_sep{step}_conv", f"separable_conv_{step + 1}_{theirs}", _SEPARABLE
        yield f"{ours}_sep{step}_bn", f"separable_conv_{step + 1}_bn_{theirs}", _BATCH_NORM
