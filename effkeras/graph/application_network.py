"""Networks that `keras.applications` builds, with this library's input, taps and top."""

from __future__ import annotations

from effkeras.graph.vocabulary import Tensor, Vocabulary
from effkeras.networks import ApplicationNetwork

FIRST_LEVEL = 3


def features(net: Vocabulary[Tensor], x: Tensor, network: ApplicationNetwork) -> dict[int, Tensor]:
    """The last feature maps of levels 3, 4 and 5 (level l has stride 2^l), from the normalised picture."""
    maps = net.application(x, network, {})
    return dict(enumerate((one for one, _ in maps), start=FIRST_LEVEL))


def logits(net: Vocabulary[Tensor], x: Tensor, network: ApplicationNetwork, classes: int) -> Tensor:
    """(B, classes) from the last map, as the original ends."""
    x = _dense_top(net, x, network) if network.hidden else _mean_top(net, x, network)
    x = net.dropout(x, "head_dropout", network.dropout, whole_sample=False)
    return net.dense(x, "logits", classes)


def _mean_top(net: Vocabulary[Tensor], x: Tensor, network: ApplicationNetwork) -> Tensor:
    x = net.flatten(net.mean(x, "head_mean"), "head_flatten")
    return net.layer_norm(x, "head_norm", network.norm_epsilon) if network.norm_epsilon else x


def _dense_top(net: Vocabulary[Tensor], x: Tensor, network: ApplicationNetwork) -> Tensor:
    x = net.flatten(x, "head_flatten")
    for index, units in enumerate(network.hidden):
        x = net.activation(net.dense(x, f"hidden{index}", units), f"hidden{index}_act", "relu")
    return x
