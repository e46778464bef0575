"""From a definition's `[network]` to its graph, whatever its kind."""

from __future__ import annotations

from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.graph import application_network, block_network, cell_network, fire_network
from effkeras.graph.vocabulary import Tensor, Vocabulary
from effkeras.graph.widths import Widths
from effkeras.networks import ApplicationNetwork, BlockNetwork, CellNetwork, ExternalNetwork


def features(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> dict[int, Tensor]:
    """The last feature map of each level: level l has stride 2^l.

    Args:
        net: what the operations mean.
        x: the normalised picture, (B, H, W, 3).
        spec: the model whose network is built.

    Returns:
        Maps of the levels that the network has, up to 5.
    """
    network = spec.network
    if isinstance(network, BlockNetwork):
        return block_network.features(net, x, network)
    if isinstance(network, CellNetwork):
        return cell_network.features(net, x, network)
    if isinstance(network, ApplicationNetwork):
        return application_network.features(net, x, network)
    if isinstance(network, ExternalNetwork):
        return dict(enumerate(net.external(x, network), start=3))
    return fire_network.features(net, x, network)


def classifier(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> Tensor:
    """Logits (B, classes) from the normalised picture; `[channels]` set the widths of its layers."""
    wide = Widths(net, spec.channels)
    return wide.end(_logits(wide, wide.start(x), spec), "logits")


def _logits(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> Tensor:
    network = spec.network
    maps = features(net, x, spec)
    x = maps[max(maps)]
    if isinstance(network, BlockNetwork):
        x = block_network.top(net, x, network)
        return net.dense(x, "logits", spec.classes)
    if isinstance(network, CellNetwork):
        return net.dense(cell_network.top(net, x, network), "logits", spec.classes)
    if isinstance(network, ApplicationNetwork):
        return application_network.logits(net, x, network, spec.classes)
    if isinstance(network, ExternalNetwork):
        raise EffkerasError(f"{spec.name}: a model of one's own can be a detector's backbone only")
    return fire_network.logits(net, x, network, spec.classes)
