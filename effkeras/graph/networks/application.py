"""The kind "application": networks of `keras.applications`, with effkeras's input, taps and head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from effkeras.definitions.networks import NETWORKS, Network
from effkeras.graph.vocabulary import Application, Tensor, Vocabulary

FIRST_LEVEL = 3


@NETWORKS.register("application")
@dataclass(frozen=True, slots=True)
class ApplicationNetwork(Network):
    """A network that `keras.applications` builds by its `function`, such as "DenseNet121".

    `taps` are the layers that output the last maps of stride 8, 16 and 32. `channel_order` is that of the
    published weights; the input here is always RGB. `padding` "same" pads the windows that the original does
    not pad, which a detector's BiFPN needs. The head is the mean, a layer normalisation if `norm_epsilon` is
    set, dropout and the classes; with `hidden`, dense layers of these widths replace the mean.
    """

    needs_keras: ClassVar[bool] = True

    function: str
    taps: tuple[str, ...]
    kind: Literal["application"] = "application"
    channel_order: Literal["rgb", "bgr"] = "rgb"
    padding: Literal["own", "same"] = "own"
    hidden: tuple[int, ...] = ()
    norm_epsilon: float = 0.0
    dropout: float = 0.0

    def checks(self) -> dict[str, bool]:
        """Requirements on the table's values, and whether each holds."""
        return {
            "taps must name three layers, of stride 8, 16 and 32": len(self.taps) == 3,
            "dropout must lie between 0 and 1": 0 <= self.dropout < 1,
            "hidden widths must be above 0": min(self.hidden, default=1) > 0,
            "norm_epsilon must not be negative": self.norm_epsilon >= 0,
        }

    def for_pyramid(self) -> ApplicationNetwork:
        """The network with "same" padding, so that maps cover the whole image."""
        return dataclasses.replace(self, padding="same")

    def features(self, net: Vocabulary[Tensor], x: Tensor) -> dict[int, Tensor]:
        """The last feature maps of levels 3, 4 and 5 (level l has stride 2^l)."""
        maps = net.application(x, Application(self.function, self.taps, self.padding), {})
        return dict(enumerate((one for one, _ in maps), start=FIRST_LEVEL))

    def logits(self, net: Vocabulary[Tensor], x: Tensor, classes: int) -> Tensor:
        """Logits (B, classes) from the last map, as the original computes them."""
        x = _dense_top(net, x, self) if self.hidden else _mean_top(net, x, self)
        x = net.dropout(x, "head_dropout", self.dropout, whole_sample=False)
        return net.dense(x, "logits", classes)

    def description(self) -> list[tuple[str, str]]:
        """Rows of `effkeras info`."""
        return [("built by", f"keras.applications.{self.function}")]


def _mean_top(net: Vocabulary[Tensor], x: Tensor, network: ApplicationNetwork) -> Tensor:
    x = net.flatten(net.mean(x, "head_mean"), "head_flatten")
    return net.layer_norm(x, "head_norm", network.norm_epsilon) if network.norm_epsilon else x


def _dense_top(net: Vocabulary[Tensor], x: Tensor, network: ApplicationNetwork) -> Tensor:
    x = net.flatten(x, "head_flatten")
    for index, units in enumerate(network.hidden):
        x = net.activation(net.dense(x, f"hidden{index}", units), f"hidden{index}_act", "relu")
    return x
